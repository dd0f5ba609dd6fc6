# SPDX-License-Identifier: GPL-2.0-only
"""Users of apps have their uids by rule; other names have none here."""

from __future__ import annotations

import pytest

from harness.users import APP_UIDS, app_name, app_uid, app_uids


def test_an_app_has_its_uid_by_rule() -> None:
    assert app_uid("u0_a70") == 10070
    assert app_uid(app_name(0)) == APP_UIDS.start


@pytest.mark.parametrize("name", ["root", "u0_a", "u0_a7x", "xu0_a7", "u10_a7", "10070"])
def test_other_names_have_none(name: str) -> None:
    assert app_uid(name) is None


def test_all_apps_of_a_text_are_found() -> None:
    assert app_uids("limit u0_a70 bytes=1; su u0_a9 u0_a70 xu0_a1 u0_a2x") == {10070, 10009}
