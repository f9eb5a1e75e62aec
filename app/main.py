"""Wiring of the gateway, and `python -m app.main`. Knows what exists, and nothing of how it works."""

import asyncio
import gc
import sys
import threading
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from types import FrameType

import structlog
import uvicorn
from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from app import logging
from app.api import (
    artifacts,
    content,
    datasets,
    docs,
    events,
    figures,
    health,
    jobs,
    keys,
    models,
    techniques,
    triggers,
    uploads,
)
from app.api.access import GUARDS, KeysNeeded, refuse_open_bind
from app.api.envelope import Envelope
from app.api.openapi import described
from app.api.problems import on_framework_refusal, on_refusal
from app.api.rates import Rates
from app.api.validation import on_invalid_request
from app.errors import ModelpressError
from app.heads import BoundedHeads
from app.resources import Resources, connect
from app.services import housekeeping
from app.services.uploads import SenderGone
from app.settings import Settings
from app.stores.migrate import upgrade
from app.web.routes import router as pages

_log = structlog.get_logger()
_DESCRIPTION = "Makes neural networks small and fast, and proves it: ONNX in, ONNX out."
_THREADS = 32  # for streams; the endpoints that do not stream have the framework's own 40
_TIDY_EVERY_S = 600.0
# SQLite's driver lets go of the interpreter for each statement. With Python's own 5 ms until another thread gives it
# back, a transaction of a dozen statements takes tens of milliseconds among busy threads, and all writers wait for it.
_SWITCH_S = 0.0005
_GRACE_S = 20  # for requests in flight at a shutdown
_KEEP_ALIVE_S = 75  # longer than load balancers keep a connection (60 s): else they send into one that is closing


def create_app(settings: Settings) -> FastAPI:
    """Return the gateway; raises KeysNeeded when it would let anybody on the network in."""
    refuse_open_bind(settings)
    resources = connect(settings, "gateway")
    app = FastAPI(
        title="modelpress",
        version="1",
        description=_DESCRIPTION,
        docs_url=None,
        redoc_url=None,
        generate_unique_id_function=lambda route: route.name,
        lifespan=_lifespan(resources),
    )
    app.state.resources = resources
    app.openapi = partial(described, app)  # type: ignore[method-assign] # FastAPI's documented way to extend it
    app.state.stopping = threading.Event()
    app.state.figures = figures.Figures(resources)
    app.state.rates = Rates(settings.requests_per_s, settings.request_burst)
    app.add_middleware(Envelope, count=app.state.figures.count, traces=resources.traces)
    _handle_errors(app)
    _include(app)
    return app


def _lifespan(resources: Resources) -> Callable[[FastAPI], AbstractAsyncContextManager[None]]:
    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(_THREADS))
        if resources.settings.profile == "embedded":
            upgrade(resources.database)
        tidying = asyncio.create_task(_tidy_forever(resources))
        with resources:
            yield
            tidying.cancel()

    return lifespan


async def _tidy_forever(resources: Resources) -> None:
    while True:
        await asyncio.sleep(_TIDY_EVERY_S)
        try:
            await asyncio.to_thread(housekeeping.tidy, resources)
        except ModelpressError as error:
            _log.warning("tidying failed", problem=error.slug)


def _handle_errors(app: FastAPI) -> None:
    app.add_exception_handler(ModelpressError, on_refusal)
    app.add_exception_handler(HTTPException, on_framework_refusal)
    app.add_exception_handler(RequestValidationError, on_invalid_request)
    app.add_exception_handler(SenderGone, _nobody_there)


def _nobody_there(_request: Request, _error: Exception) -> Response:
    return Response(status_code=400)  # the client has gone; this ends the exchange


def _include(app: FastAPI) -> None:
    # A path is held against one route after the other, so what is called most comes first; and again for each router
    # that holds another, so none does.
    for module in (jobs, events, uploads, models, datasets, techniques, artifacts, content, triggers, keys):
        app.include_router(module.router, prefix="/v1", dependencies=GUARDS)
    app.include_router(triggers.hooks, prefix="/v1")
    app.include_router(health.router)
    app.include_router(docs.router)
    app.include_router(pages)


class _Server(uvicorn.Server):
    """Tells the app of a signal at once: streams end, so that no client holds up the shutdown."""

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self.config.app.state.stopping.set()  # type: ignore[union-attr] # the app given above
        super().handle_exit(sig, frame)


def main() -> None:
    """Serve until a signal comes."""
    settings = Settings()
    logging.configure(settings.log_level)
    try:
        app = create_app(settings)
    except KeysNeeded as error:
        sys.exit(f"modelpress gateway: {error}")
    sys.setswitchinterval(_SWITCH_S)
    # A full collection holds up every request while it looks at each object: 150 ms and more for what the imports made,
    # 2 ms without it. All of that lives as long as the process.
    gc.collect()
    gc.freeze()
    config = uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        http=BoundedHeads,
        access_log=False,
        log_config=None,
        server_header=False,
        timeout_graceful_shutdown=_GRACE_S,
        timeout_keep_alive=_KEEP_ALIVE_S,
    )
    _Server(config).run()


if __name__ == "__main__":
    main()
