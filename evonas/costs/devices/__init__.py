"""Device files that ship with evonas: one TOML per device, each number with its source."""
