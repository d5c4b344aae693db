# layout, plan, ladder and routers.
libengine_la_SOURCES += \
	engine/layout.c engine/plan.c engine/ladder.c \
	engine/router/table.c engine/router/table.h engine/router/emit.c engine/router/emit.h \
	engine/router/pick.c engine/router/pick.h engine/router/dense.c engine/router/recency.c \
	engine/router/random.c engine/router/streaming.c engine/router/quest.c engine/router/oracle.c \
	engine/router/semantic.c engine/router/semantic_budget.c engine/router/semantic.h
