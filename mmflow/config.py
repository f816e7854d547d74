"""Settings: flag over environment over file over default.

Every command, `Session(...)` and configs/*.toml share these keys; the environment spells them
`MMFLOW_SHARD_SIZE` and so on. Sizes are bytes or text such as `64MiB`, `4GB`, `512k`.
"""
