# Scorers.
libengine_la_SOURCES += engine/scorer/table.c engine/scorer/table.h engine/scorer/cosine.c engine/scorer/quest.c
