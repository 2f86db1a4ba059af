"""Validators of the catalogue with the real programs, in their sandbox: content with what is right and nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest
from pyrsyncbackup_agent.modules import sources
from pyrsyncbackup_collector.drill import validator
from pyrsyncbackup_collector.drill.validator import FAILED, PASSED, Validation
from pyrsyncbackup_collector.pull.cancel import Cancel

CATALOGUE = sources.read([], frozenset({0})).by_name
PASSWD = {
    "etc/passwd": "root:x:0:0::/:/bin/sh\nwww-data:x:33:33::/:/bin/false\nhaproxy:x:99:99::/:/bin/false\n",
    "etc/group": "root:x:0:\nwww-data:x:33:\nhaproxy:x:99:\n",
}
# As the packages of Debian 12 set them up, shortened.
GOOD: Mapping[str, Mapping[str, str]] = {
    "apache": {
        "etc/apache2/envvars": (
            "export APACHE_RUN_USER=www-data\nexport APACHE_RUN_GROUP=www-data\n"
            "export APACHE_RUN_DIR=/var/run/apache2\nexport APACHE_LOG_DIR=/var/log/apache2\n"
        ),
        "etc/apache2/apache2.conf": (
            "DefaultRuntimeDir ${APACHE_RUN_DIR}\nPidFile ${APACHE_RUN_DIR}/apache2.pid\n"
            "User ${APACHE_RUN_USER}\nGroup ${APACHE_RUN_GROUP}\nErrorLog ${APACHE_LOG_DIR}/error.log\n"
            "Include mods-enabled/*.load\nListen 80\nServerName www.example.com\nIncludeOptional sites-enabled/*.conf\n"
        ),
        "etc/apache2/mods-enabled/mpm_event.load": (
            "LoadModule mpm_event_module /usr/lib/apache2/modules/mod_mpm_event.so\n"
            "LoadModule authz_core_module /usr/lib/apache2/modules/mod_authz_core.so\n"
        ),
        "etc/apache2/sites-enabled/site.conf": "<VirtualHost *:80>\nDocumentRoot /srv/www\n</VirtualHost>\n",
    },
    "apt": {
        "etc/apt/sources.list": "deb http://deb.debian.org/debian bookworm main\n",
        "etc/apt/sources.list.d/own.sources": (
            "Types: deb\nURIs: https://repo.example.com/\nSuites: stable\nComponents: main\n"
            "Signed-By: /usr/share/keyrings/own.gpg\n"
        ),
        "etc/apt/apt.conf.d/50own": 'APT::Install-Recommends "false";\n',
    },
    "bind": {
        "etc/bind/named.conf": (
            'include "/etc/bind/named.conf.options";\n'
            'zone "example.com" { type master; file "/etc/bind/db.example.com"; };\n'
            'zone "example.org" { type master; file "/var/lib/bind/db.example.org"; allow-update { localhost; }; };\n'
            'zone "example.net" { type slave; file "db.example.net"; masters { 192.0.2.9; }; };\n'
        ),
        "etc/bind/named.conf.options": 'options { directory "/var/cache/bind"; listen-on-v6 { any; }; };\n',
        "etc/bind/db.example.com": "$TTL 1d\n@ IN SOA ns hostmaster (1 1d 1h 4w 1h)\n@ IN NS ns\nns IN A 192.0.2.1\n",
        "var/lib/bind/db.example.org": "$TTL 1d\n@ IN SOA ns h (1 1d 1h 4w 1h)\n@ IN NS ns\nns IN A 192.0.2.1\n",
    },
    "haproxy": {
        "etc/haproxy/haproxy.cfg": (
            "global\n  chroot /var/lib/haproxy\n  stats socket /run/haproxy/admin.sock mode 660\n  user haproxy\n"
            "  group haproxy\ndefaults\n  mode http\n  timeout connect 5s\n  timeout client 5s\n  timeout server 5s\n"
            "  errorfile 503 /etc/haproxy/errors/503.http\n"
            "frontend web\n  bind :80\n  default_backend app\nbackend app\n  server a 192.0.2.1:80\n"
        ),
        "etc/haproxy/errors/503.http": "HTTP/1.0 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n",
    },
}
# A file, what is written there instead, and what the program says of it.
BAD = [
    ("apache", "etc/apache2/sites-enabled/site.conf", "<VirtualHost *:80>\nDocumentRot /srv\n</VirtualHost>\n", "Rot"),
    ("apache", "etc/apache2/mods-enabled/own.load", "LoadModule own /srv/own.so\n", "own.so"),
    ("apt", "etc/apt/sources.list", "dbe http://deb.debian.org/debian bookworm main\n", "dbe"),
    ("apt", "etc/apt/sources.list.d/own.sources", "Types: deb\nURIs https://x/\n", "own.sources"),
    ("apt", "etc/apt/apt.conf.d/50own", 'APT::Install-Recommends { "x\n', "50own"),
    ("bind", "etc/bind/named.conf.options", "optoins { };\n", "optoins"),
    ("bind", "var/lib/bind/db.example.org", "$TTL 1d\n@ IN SOA ns h (1 1d 1h 4w 1h)\n", "example.org"),
    ("haproxy", "etc/haproxy/haproxy.cfg", "frontend web\n  bnd :80\n", "bnd"),
]


def try_out(tree: Path, name: str, files: Mapping[str, str]) -> Validation:
    definition = CATALOGUE[name].definition
    assert definition is not None
    given = definition.validator
    if validator.program(given.command) is None:
        pytest.skip(f"{given.command[0]} is not installed")
    for path, text in {**PASSWD, **files}.items():
        (tree / path).parent.mkdir(parents=True, exist_ok=True)
        (tree / path).write_text(text)
    assert validator.lacking(given.command, tree) == ""
    roots = [part.encode() for part in ("etc", "var/lib/bind") if (tree / part).is_dir()]
    return validator.run(given.command, tree, roots, given.directories, Cancel())


@pytest.mark.parametrize("name", GOOD)
def test_what_is_right_passes(tmp_path: Path, name: str) -> None:
    found = try_out(tmp_path, name, GOOD[name])
    assert found.outcome == PASSED, found.lines


@pytest.mark.parametrize(("name", "path", "text", "said"), BAD)
def test_what_is_wrong_fails_and_the_program_says_where(
    tmp_path: Path, name: str, path: str, text: str, said: str
) -> None:
    found = try_out(tmp_path, name, {**GOOD[name], path: text})
    assert found.outcome == FAILED
    assert any(said in line for line in found.lines), found.lines


def test_every_validator_of_the_catalogue_is_tried_somewhere() -> None:
    named = {name for name, source in CATALOGUE.items() if source.definition and source.definition.validator.command}
    assert named == {*GOOD, "nginx", "ssh"}


@pytest.mark.parametrize(
    ("word", "lacking"),
    [
        ("{root}/etc/there", ""),
        ("{root}/etc/link", ""),
        ("{root}/etc/not", "/etc/not"),
        ("Dir::Etc={root}/etc/not", "/etc/not"),
        ("grep -q x {root}/etc/not", ""),
        ("{root}", ""),
        ("/etc/not", ""),
    ],
)
def test_a_path_that_the_snapshot_has_not_is_known_before(tmp_path: Path, word: str, lacking: str) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc" / "there").touch()
    (tmp_path / "etc" / "link").symlink_to("/srv/elsewhere")
    assert validator.lacking(("sh", word), tmp_path) == lacking
