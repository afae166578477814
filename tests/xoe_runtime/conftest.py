from tests.xoe_runtime.laid import laid  # noqa: F401
