"""Why a layer is built: causes found by comparing recipes. Pure."""
