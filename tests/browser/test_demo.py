from __future__ import annotations

import zipfile

from playwright.sync_api import expect

from tests import example
from tests.browser.visitors import Visitor


def test_whole_job(browser):
    """Run the demo command of the README: the site and the fake have their own processes."""
    with example.demo("--noreload") as address:
        teacher = Visitor(browser.new_context().new_page(), address)
        teacher.sign_in("teacher")
        teacher.follow("Mathematics 9", "Generate an exam")
        teacher.embed.get_by_label("Name").fill("Powers and roots")
        teacher.press("complete")
        expect(teacher.page.get_by_text("The exam “Powers and roots” is ready.")).to_be_visible()
        teacher.follow("Powers and roots")
        with teacher.page.expect_download() as download:
            teacher.follow("Download QTI 3")
        assert zipfile.is_zipfile(download.value.path())
        teacher.page.context.close()
    assert teacher.errors == []
