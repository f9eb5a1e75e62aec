import httpx
import pytest

JOB = "job_" + "0" * 26
PATHS = ["/", "/jobs", f"/jobs/{JOB}", f"/jobs/{JOB}/result"]


@pytest.mark.parametrize("path", PATHS)
async def test_page_when_asked_for(client: httpx.AsyncClient, path: str) -> None:
    answer = await client.get(path)
    assert answer.status_code == 200
    assert answer.headers["content-security-policy"].startswith("default-src 'self'")
    for inline in ("<style", "style=", "onclick=", "<script>"):
        assert inline not in answer.text


async def test_page_when_the_job_id_is_no_id(client: httpx.AsyncClient) -> None:
    answer = await client.get("/jobs/<script>alert(1)<%2Fscript>")
    assert answer.status_code == 404
    assert "alert" not in answer.text


@pytest.mark.parametrize("name", ["style.css", "start.js", "icon.svg"])
async def test_static_when_known_and_unchanged(client: httpx.AsyncClient, name: str) -> None:
    first = await client.get(f"/static/{name}")
    again = await client.get(f"/static/{name}", headers={"If-None-Match": first.headers["etag"]})
    assert (first.status_code, again.status_code) == (200, 304)


@pytest.mark.parametrize("name", ["missing.js", "..%2Froutes.py", "routes.py", "%2Fetc%2Fpasswd"])
async def test_static_when_not_ours(client: httpx.AsyncClient, name: str) -> None:
    assert (await client.get(f"/static/{name}")).status_code == 404
