from __future__ import annotations

import os
from pathlib import Path

from pyrsyncbackup_agent.modules.host import Host

STATUS = """Package: nginx
Status: install ok installed
Description: web server
 Package: not this one

Package: apache2
Status: deinstall ok config-files

Package: bash
Essential: yes
Status: hold ok installed
Version: 5
"""


def test_packages_of_dpkg_count_only_while_installed(tmp_path: Path) -> None:
    status = tmp_path / "status"
    status.write_text(STATUS)
    host = Host(dpkg_status=status)
    assert host.has_package("nginx")
    assert host.has_package("bash")
    assert not host.has_package("apache2")
    assert not host.has_package("not")
    status.write_text(STATUS.replace("deinstall ok config-files", "install ok installed"))
    assert host.has_package("apache2")


def test_packages_of_rpm_are_asked_for_where_there_is_no_dpkg(tmp_path: Path) -> None:
    rpm = tmp_path / "rpm"
    rpm.write_text('#!/bin/sh\n[ "$*" = "-qa --qf %{NAME}\\n" ] && printf "httpd\\nbash\\n"\n')
    rpm.chmod(0o755)
    host = Host(dpkg_status=tmp_path / "none", rpm=str(rpm))
    assert host.has_package("httpd")
    assert not host.has_package("nginx")


def test_without_any_package_database_nothing_is_installed(tmp_path: Path) -> None:
    assert not Host(dpkg_status=tmp_path / "none", rpm=str(tmp_path / "rpm")).has_package("bash")
    assert not Host(dpkg_status=tmp_path / "none", command_dirs=(str(tmp_path),)).has_package("bash")


def test_commands_are_looked_for_in_the_systems_directories_alone(tmp_path: Path) -> None:
    (tmp_path / "prog").touch(mode=0o755)
    (tmp_path / "data").touch(mode=0o644)
    host = Host(command_dirs=(str(tmp_path),))
    assert host.has_command("prog")
    assert not host.has_command("data")
    assert not host.has_command("sh")


def test_units_are_files_by_name_glob_or_without_suffix(tmp_path: Path) -> None:
    (tmp_path / "a.service").touch()
    (tmp_path / "b@.timer").touch()
    os.symlink("/dev/null", tmp_path / "c.service")
    host = Host(unit_dirs=(str(tmp_path / "none"), str(tmp_path)))
    assert host.has_unit("a")
    assert host.has_unit("a.service")
    assert host.has_unit("b@*.timer")
    assert not host.has_unit("b")
    assert not host.has_unit("c"), "a masked unit is not there"
