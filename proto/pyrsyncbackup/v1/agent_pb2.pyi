from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Iterable as _Iterable, Mapping as _Mapping, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ModuleState(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    MODULE_STATE_UNSPECIFIED: _ClassVar[ModuleState]
    MODULE_STATE_READY: _ClassVar[ModuleState]
    MODULE_STATE_ABSENT: _ClassVar[ModuleState]
    MODULE_STATE_INVALID: _ClassVar[ModuleState]

class EntryType(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    ENTRY_TYPE_UNSPECIFIED: _ClassVar[EntryType]
    ENTRY_TYPE_FILE: _ClassVar[EntryType]
    ENTRY_TYPE_DIRECTORY: _ClassVar[EntryType]
    ENTRY_TYPE_SYMLINK: _ClassVar[EntryType]
    ENTRY_TYPE_FIFO: _ClassVar[EntryType]
    ENTRY_TYPE_SOCKET: _ClassVar[EntryType]
    ENTRY_TYPE_CHARACTER_DEVICE: _ClassVar[EntryType]
    ENTRY_TYPE_BLOCK_DEVICE: _ClassVar[EntryType]

class EntryErrorKind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    ENTRY_ERROR_KIND_UNSPECIFIED: _ClassVar[EntryErrorKind]
    ENTRY_ERROR_KIND_DENIED: _ClassVar[EntryErrorKind]
    ENTRY_ERROR_KIND_VANISHED: _ClassVar[EntryErrorKind]
    ENTRY_ERROR_KIND_REPLACED: _ClassVar[EntryErrorKind]
    ENTRY_ERROR_KIND_IO: _ClassVar[EntryErrorKind]
    ENTRY_ERROR_KIND_OUTSIDE: _ClassVar[EntryErrorKind]
MODULE_STATE_UNSPECIFIED: ModuleState
MODULE_STATE_READY: ModuleState
MODULE_STATE_ABSENT: ModuleState
MODULE_STATE_INVALID: ModuleState
ENTRY_TYPE_UNSPECIFIED: EntryType
ENTRY_TYPE_FILE: EntryType
ENTRY_TYPE_DIRECTORY: EntryType
ENTRY_TYPE_SYMLINK: EntryType
ENTRY_TYPE_FIFO: EntryType
ENTRY_TYPE_SOCKET: EntryType
ENTRY_TYPE_CHARACTER_DEVICE: EntryType
ENTRY_TYPE_BLOCK_DEVICE: EntryType
ENTRY_ERROR_KIND_UNSPECIFIED: EntryErrorKind
ENTRY_ERROR_KIND_DENIED: EntryErrorKind
ENTRY_ERROR_KIND_VANISHED: EntryErrorKind
ENTRY_ERROR_KIND_REPLACED: EntryErrorKind
ENTRY_ERROR_KIND_IO: EntryErrorKind
ENTRY_ERROR_KIND_OUTSIDE: EntryErrorKind

class GetInfoRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class GetInfoResponse(_message.Message):
    __slots__ = ("name", "version", "os", "kernel", "machine_id", "rsync_version", "protocol_min", "protocol_max", "relay", "proof")
    NAME_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    OS_FIELD_NUMBER: _ClassVar[int]
    KERNEL_FIELD_NUMBER: _ClassVar[int]
    MACHINE_ID_FIELD_NUMBER: _ClassVar[int]
    RSYNC_VERSION_FIELD_NUMBER: _ClassVar[int]
    PROTOCOL_MIN_FIELD_NUMBER: _ClassVar[int]
    PROTOCOL_MAX_FIELD_NUMBER: _ClassVar[int]
    RELAY_FIELD_NUMBER: _ClassVar[int]
    PROOF_FIELD_NUMBER: _ClassVar[int]
    name: str
    version: str
    os: str
    kernel: str
    machine_id: str
    rsync_version: str
    protocol_min: int
    protocol_max: int
    relay: bool
    proof: bytes
    def __init__(self, name: _Optional[str] = ..., version: _Optional[str] = ..., os: _Optional[str] = ..., kernel: _Optional[str] = ..., machine_id: _Optional[str] = ..., rsync_version: _Optional[str] = ..., protocol_min: _Optional[int] = ..., protocol_max: _Optional[int] = ..., relay: bool = ..., proof: _Optional[bytes] = ...) -> None: ...

class ListModulesRequest(_message.Message):
    __slots__ = ("with_fingerprints", "names")
    WITH_FINGERPRINTS_FIELD_NUMBER: _ClassVar[int]
    NAMES_FIELD_NUMBER: _ClassVar[int]
    with_fingerprints: bool
    names: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, with_fingerprints: bool = ..., names: _Optional[_Iterable[str]] = ...) -> None: ...

class ListModulesResponse(_message.Message):
    __slots__ = ("modules",)
    MODULES_FIELD_NUMBER: _ClassVar[int]
    modules: _containers.RepeatedCompositeFieldContainer[Module]
    def __init__(self, modules: _Optional[_Iterable[_Union[Module, _Mapping]]] = ...) -> None: ...

class Module(_message.Message):
    __slots__ = ("name", "title", "state", "reason", "roots", "excludes", "includes", "hints", "has_hooks", "fingerprint", "validator")
    NAME_FIELD_NUMBER: _ClassVar[int]
    TITLE_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    ROOTS_FIELD_NUMBER: _ClassVar[int]
    EXCLUDES_FIELD_NUMBER: _ClassVar[int]
    INCLUDES_FIELD_NUMBER: _ClassVar[int]
    HINTS_FIELD_NUMBER: _ClassVar[int]
    HAS_HOOKS_FIELD_NUMBER: _ClassVar[int]
    FINGERPRINT_FIELD_NUMBER: _ClassVar[int]
    VALIDATOR_FIELD_NUMBER: _ClassVar[int]
    name: str
    title: str
    state: ModuleState
    reason: str
    roots: _containers.RepeatedCompositeFieldContainer[Root]
    excludes: _containers.RepeatedScalarFieldContainer[str]
    includes: _containers.RepeatedScalarFieldContainer[str]
    hints: Hints
    has_hooks: bool
    fingerprint: Fingerprint
    validator: Validator
    def __init__(self, name: _Optional[str] = ..., title: _Optional[str] = ..., state: _Optional[_Union[ModuleState, str]] = ..., reason: _Optional[str] = ..., roots: _Optional[_Iterable[_Union[Root, _Mapping]]] = ..., excludes: _Optional[_Iterable[str]] = ..., includes: _Optional[_Iterable[str]] = ..., hints: _Optional[_Union[Hints, _Mapping]] = ..., has_hooks: bool = ..., fingerprint: _Optional[_Union[Fingerprint, _Mapping]] = ..., validator: _Optional[_Union[Validator, _Mapping]] = ...) -> None: ...

class Validator(_message.Message):
    __slots__ = ("command", "beside", "directories")
    COMMAND_FIELD_NUMBER: _ClassVar[int]
    BESIDE_FIELD_NUMBER: _ClassVar[int]
    DIRECTORIES_FIELD_NUMBER: _ClassVar[int]
    command: _containers.RepeatedScalarFieldContainer[str]
    beside: _containers.RepeatedScalarFieldContainer[str]
    directories: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, command: _Optional[_Iterable[str]] = ..., beside: _Optional[_Iterable[str]] = ..., directories: _Optional[_Iterable[str]] = ...) -> None: ...

class Root(_message.Message):
    __slots__ = ("id", "path", "names", "aliases")
    ID_FIELD_NUMBER: _ClassVar[int]
    PATH_FIELD_NUMBER: _ClassVar[int]
    NAMES_FIELD_NUMBER: _ClassVar[int]
    ALIASES_FIELD_NUMBER: _ClassVar[int]
    id: int
    path: bytes
    names: _containers.RepeatedScalarFieldContainer[bytes]
    aliases: _containers.RepeatedScalarFieldContainer[bytes]
    def __init__(self, id: _Optional[int] = ..., path: _Optional[bytes] = ..., names: _Optional[_Iterable[bytes]] = ..., aliases: _Optional[_Iterable[bytes]] = ...) -> None: ...

class Hints(_message.Message):
    __slots__ = ("check", "pull", "keep")
    class KeepEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: int
        def __init__(self, key: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...
    CHECK_FIELD_NUMBER: _ClassVar[int]
    PULL_FIELD_NUMBER: _ClassVar[int]
    KEEP_FIELD_NUMBER: _ClassVar[int]
    check: str
    pull: str
    keep: _containers.ScalarMap[str, int]
    def __init__(self, check: _Optional[str] = ..., pull: _Optional[str] = ..., keep: _Optional[_Mapping[str, int]] = ...) -> None: ...

class Fingerprint(_message.Message):
    __slots__ = ("digest", "settled", "entries")
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    SETTLED_FIELD_NUMBER: _ClassVar[int]
    ENTRIES_FIELD_NUMBER: _ClassVar[int]
    digest: bytes
    settled: bool
    entries: int
    def __init__(self, digest: _Optional[bytes] = ..., settled: bool = ..., entries: _Optional[int] = ...) -> None: ...

class WatchModulesRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class WatchModulesResponse(_message.Message):
    __slots__ = ("generation",)
    GENERATION_FIELD_NUMBER: _ClassVar[int]
    generation: int
    def __init__(self, generation: _Optional[int] = ...) -> None: ...

class OpenModuleRequest(_message.Message):
    __slots__ = ("name",)
    NAME_FIELD_NUMBER: _ClassVar[int]
    name: str
    def __init__(self, name: _Optional[str] = ...) -> None: ...

class OpenModuleResponse(_message.Message):
    __slots__ = ("session", "module")
    SESSION_FIELD_NUMBER: _ClassVar[int]
    MODULE_FIELD_NUMBER: _ClassVar[int]
    session: bytes
    module: Module
    def __init__(self, session: _Optional[bytes] = ..., module: _Optional[_Union[Module, _Mapping]] = ...) -> None: ...

class ListEntriesRequest(_message.Message):
    __slots__ = ("session", "paths")
    SESSION_FIELD_NUMBER: _ClassVar[int]
    PATHS_FIELD_NUMBER: _ClassVar[int]
    session: bytes
    paths: _containers.RepeatedScalarFieldContainer[bytes]
    def __init__(self, session: _Optional[bytes] = ..., paths: _Optional[_Iterable[bytes]] = ...) -> None: ...

class ListEntriesResponse(_message.Message):
    __slots__ = ("entries", "fingerprint")
    ENTRIES_FIELD_NUMBER: _ClassVar[int]
    FINGERPRINT_FIELD_NUMBER: _ClassVar[int]
    entries: _containers.RepeatedCompositeFieldContainer[Entry]
    fingerprint: Fingerprint
    def __init__(self, entries: _Optional[_Iterable[_Union[Entry, _Mapping]]] = ..., fingerprint: _Optional[_Union[Fingerprint, _Mapping]] = ...) -> None: ...

class Entry(_message.Message):
    __slots__ = ("path", "type", "mode", "uid", "gid", "user", "group", "size", "allocated", "mtime_s", "mtime_ns", "target", "device_major", "device_minor", "link_to", "xattrs", "public", "token", "young", "root", "error")
    PATH_FIELD_NUMBER: _ClassVar[int]
    TYPE_FIELD_NUMBER: _ClassVar[int]
    MODE_FIELD_NUMBER: _ClassVar[int]
    UID_FIELD_NUMBER: _ClassVar[int]
    GID_FIELD_NUMBER: _ClassVar[int]
    USER_FIELD_NUMBER: _ClassVar[int]
    GROUP_FIELD_NUMBER: _ClassVar[int]
    SIZE_FIELD_NUMBER: _ClassVar[int]
    ALLOCATED_FIELD_NUMBER: _ClassVar[int]
    MTIME_S_FIELD_NUMBER: _ClassVar[int]
    MTIME_NS_FIELD_NUMBER: _ClassVar[int]
    TARGET_FIELD_NUMBER: _ClassVar[int]
    DEVICE_MAJOR_FIELD_NUMBER: _ClassVar[int]
    DEVICE_MINOR_FIELD_NUMBER: _ClassVar[int]
    LINK_TO_FIELD_NUMBER: _ClassVar[int]
    XATTRS_FIELD_NUMBER: _ClassVar[int]
    PUBLIC_FIELD_NUMBER: _ClassVar[int]
    TOKEN_FIELD_NUMBER: _ClassVar[int]
    YOUNG_FIELD_NUMBER: _ClassVar[int]
    ROOT_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    path: bytes
    type: EntryType
    mode: int
    uid: int
    gid: int
    user: bytes
    group: bytes
    size: int
    allocated: int
    mtime_s: int
    mtime_ns: int
    target: bytes
    device_major: int
    device_minor: int
    link_to: bytes
    xattrs: _containers.RepeatedCompositeFieldContainer[Xattr]
    public: bool
    token: int
    young: bool
    root: int
    error: EntryError
    def __init__(self, path: _Optional[bytes] = ..., type: _Optional[_Union[EntryType, str]] = ..., mode: _Optional[int] = ..., uid: _Optional[int] = ..., gid: _Optional[int] = ..., user: _Optional[bytes] = ..., group: _Optional[bytes] = ..., size: _Optional[int] = ..., allocated: _Optional[int] = ..., mtime_s: _Optional[int] = ..., mtime_ns: _Optional[int] = ..., target: _Optional[bytes] = ..., device_major: _Optional[int] = ..., device_minor: _Optional[int] = ..., link_to: _Optional[bytes] = ..., xattrs: _Optional[_Iterable[_Union[Xattr, _Mapping]]] = ..., public: bool = ..., token: _Optional[int] = ..., young: bool = ..., root: _Optional[int] = ..., error: _Optional[_Union[EntryError, _Mapping]] = ...) -> None: ...

class Xattr(_message.Message):
    __slots__ = ("name", "value")
    NAME_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    name: bytes
    value: bytes
    def __init__(self, name: _Optional[bytes] = ..., value: _Optional[bytes] = ...) -> None: ...

class EntryError(_message.Message):
    __slots__ = ("kind", "message")
    KIND_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    kind: EntryErrorKind
    message: str
    def __init__(self, kind: _Optional[_Union[EntryErrorKind, str]] = ..., message: _Optional[str] = ...) -> None: ...

class HashFilesRequest(_message.Message):
    __slots__ = ("session", "paths")
    SESSION_FIELD_NUMBER: _ClassVar[int]
    PATHS_FIELD_NUMBER: _ClassVar[int]
    session: bytes
    paths: _containers.RepeatedScalarFieldContainer[bytes]
    def __init__(self, session: _Optional[bytes] = ..., paths: _Optional[_Iterable[bytes]] = ...) -> None: ...

class HashFilesResponse(_message.Message):
    __slots__ = ("hashes",)
    HASHES_FIELD_NUMBER: _ClassVar[int]
    hashes: _containers.RepeatedCompositeFieldContainer[FileHash]
    def __init__(self, hashes: _Optional[_Iterable[_Union[FileHash, _Mapping]]] = ...) -> None: ...

class FileHash(_message.Message):
    __slots__ = ("path", "sha256", "size", "token", "error")
    PATH_FIELD_NUMBER: _ClassVar[int]
    SHA256_FIELD_NUMBER: _ClassVar[int]
    SIZE_FIELD_NUMBER: _ClassVar[int]
    TOKEN_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    path: bytes
    sha256: bytes
    size: int
    token: int
    error: EntryError
    def __init__(self, path: _Optional[bytes] = ..., sha256: _Optional[bytes] = ..., size: _Optional[int] = ..., token: _Optional[int] = ..., error: _Optional[_Union[EntryError, _Mapping]] = ...) -> None: ...

class TransferRequest(_message.Message):
    __slots__ = ("session", "root", "data")
    SESSION_FIELD_NUMBER: _ClassVar[int]
    ROOT_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    session: bytes
    root: int
    data: bytes
    def __init__(self, session: _Optional[bytes] = ..., root: _Optional[int] = ..., data: _Optional[bytes] = ...) -> None: ...

class TransferResponse(_message.Message):
    __slots__ = ("data", "exit")
    DATA_FIELD_NUMBER: _ClassVar[int]
    EXIT_FIELD_NUMBER: _ClassVar[int]
    data: bytes
    exit: DaemonExit
    def __init__(self, data: _Optional[bytes] = ..., exit: _Optional[_Union[DaemonExit, _Mapping]] = ...) -> None: ...

class DaemonExit(_message.Message):
    __slots__ = ("code", "messages")
    CODE_FIELD_NUMBER: _ClassVar[int]
    MESSAGES_FIELD_NUMBER: _ClassVar[int]
    code: int
    messages: str
    def __init__(self, code: _Optional[int] = ..., messages: _Optional[str] = ...) -> None: ...

class PushRequest(_message.Message):
    __slots__ = ("name", "data")
    NAME_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    name: str
    data: bytes
    def __init__(self, name: _Optional[str] = ..., data: _Optional[bytes] = ...) -> None: ...

class PushResponse(_message.Message):
    __slots__ = ("data", "exit", "directory")
    DATA_FIELD_NUMBER: _ClassVar[int]
    EXIT_FIELD_NUMBER: _ClassVar[int]
    DIRECTORY_FIELD_NUMBER: _ClassVar[int]
    data: bytes
    exit: DaemonExit
    directory: str
    def __init__(self, data: _Optional[bytes] = ..., exit: _Optional[_Union[DaemonExit, _Mapping]] = ..., directory: _Optional[str] = ...) -> None: ...
