"""The configuration of one fake as its program file has it baked in: plain literals."""


class Configuration:
    """One attribute for each literal; what they mean is in `Knobs`."""

    topology: str
    mark: str
    ready: str
    journal: str
    disk: str
    pid_file: str
    qmp: str
    flush_time: float
    blocks: int
    block_size: int
    seed: int
    flush_profile: str
    stall_at: int
    stall_seconds: float
    guest: str
    torn: bool
    on_term: str
    on_term_at: int
    crash_exit: int
    crash_signal: int
    on_second_term: str
    exit_status: int
    linger: float
    ready_after: float
    inherit: str
    reaper_delay: float
    reuse_pid: bool
    survives_kill: float
    helpers: int
    helper: tuple[str, ...]
    disk_lock: bool

    def __init__(self, **literals: object) -> None:
        self.__dict__.update(literals)
