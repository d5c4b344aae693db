# layout, plan, ladder and routers.
