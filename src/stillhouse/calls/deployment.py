"""From an `Ask` to the thing that answers: provider, slots, price, and who it is in keys."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from stillhouse.core.errors import RecipeError
from stillhouse.core.keys import canonical, digest_of, folder_digest
from stillhouse.core.node import content_special

from .ask import Ask, function_named, scheme_of
from .breaker import Breaker
from .credentials import Credentials
from .endpoint import HOSTS, Endpoint, at_endpoint, hosted
from .gate import Gate
from .hedge import Hedge
from .pace import Pace
from .pace_file import PaceFile
from .prices import FREE, Price, Prices, price_of
from .providers.protocol import InProcess, Provider
from .reply import Reply, Usage
from .request import Request, RequestForm, Tool
from .retry import OtherModel, Patience
from .source import Source

if TYPE_CHECKING:
    from stillhouse.core.artifact import Model
    from stillhouse.core.events import Bus
    from stillhouse.core.options import Options
    from stillhouse.core.step import Step
    from stillhouse.text.schema import Schema

    from .providers.dialect import Watch

DEFAULT_CONCURRENCY = 32
_ENGINE_WIDTH = 512  # two batches of vLLM: one is computed while the next one gathers
_GUESSED_REPLY_TOKENS = 1000
_CHARACTERS_PER_TOKEN = 3.0  # on the careful side: English has 4 to 5

Endpoints = Mapping[str, "Endpoint | str | Sequence[Endpoint | str] | Mapping[str, Any]"]
"""Servers by the id of a deployment, which may have several, or by URL; for `vllm:NAME` and `gguf:FILE` the arguments
of the library that loads them."""

Connect = Callable[["Endpoint", int, "Watch"], "Provider"]
"""Makes the provider of an endpoint: with so many connections at most, and told of every response."""

Concurrency = int | Mapping[str, int] | None
"""Calls at once for each deployment, or by the name of the model, deployment or endpoint."""


class Deployment:
    """One way of being answered, shared by all `Ask`s that come down to it. `by` is its canonical form in call keys.

    It has one source, or several of one model. Each of these makes its provider at the first call.
    """

    def __init__(
        self,
        name: str,
        by: Any,
        model: str,
        price: Price | None,
        sources: Sequence[Source],
        patience: Patience | None = None,
    ) -> None:
        self.name = name
        self.by = by
        self.model = model
        self.price = price
        self.gate = Gate(sources)
        self.breaker = Breaker(patience or Patience())
        quantile = None if patience is None else patience.hedge
        self.hedge = None if quantile is None else Hedge(quantile)
        self._told = False
        self._replies = 0
        self._reply_tokens = 0

    def warn_if_unpriced(self, warn: Callable[[str], None]) -> None:
        """Say once that nobody counts what calls cost here; a server of this machine has no bill."""
        endpoint = self.gate.sources[0].endpoint
        if self.price is not None or self._told or endpoint is None:
            return
        self._told = True
        if urlsplit(endpoint.url).hostname in ("localhost", "127.0.0.1", "::1"):
            return
        warn(
            f"no price is known of `{self.name}`: what it costs is not counted. Give dollars for a million tokens by "
            f"`Session(prices={{{self.name!r}: Price(prompt=…, reply=…)}})`, or `session: prices:` in a recipe file"
        )

    def begin(self) -> None:
        """Called when a list of prompts or a single one is taken up."""
        if self.gate.failure is not None and self.gate.reopen():
            self.breaker.reset()

    @property
    def provider(self) -> Provider:
        """That of the first source, made at the first call."""
        return self.gate.sources[0].provider

    @property
    def in_process(self) -> InProcess | None:
        """The provider, where it answers many requests in one go."""
        provider = self.provider
        return provider if isinstance(provider, InProcess) else None

    def cost(self, usage: Usage) -> float | None:
        return None if self.price is None else self.price.cost(usage)

    def most(self, request: Request) -> float | None:
        """The most that a call may cost: a reply of `max_tokens`; without that, about what it will cost."""
        tokens = request.sampling.max_tokens
        if tokens is None or self.price is None or self.price is FREE:
            return self.estimate(request)
        return self.price.cost(Usage(round(len(request.canonical) / _CHARACTERS_PER_TOKEN), tokens))

    def estimate(self, request: Request) -> float | None:
        """About what a request will cost: characters for tokens, and replies as long as those so far."""
        if self.price is None or self.price is FREE:
            return None if self.price is None else 0.0
        tokens = request.sampling.max_tokens or _GUESSED_REPLY_TOKENS
        if self._replies >= 5:
            tokens = round(1.25 * self._reply_tokens / self._replies)
        return self.price.cost(Usage(round(len(request.canonical) / _CHARACTERS_PER_TOKEN), tokens))

    def estimate_all(self, requests: Sequence[Request]) -> float | None:
        if self.price is FREE:
            return 0.0
        estimates = [self.estimate(request) for request in requests]
        return None if None in estimates else sum(estimate or 0.0 for estimate in estimates)

    def answered(self, usage: Usage) -> None:
        """A reply came: they are about that long."""
        self._replies += 1
        self._reply_tokens += usage.reply_tokens

    async def close(self) -> None:
        for source in self.gate.sources:
            await source.close()


class Deployments:
    """Finds the deployment of an `Ask`. What the session says about places and widths stands here, and in no key."""

    def __init__(
        self,
        *,
        endpoints: Endpoints,
        credentials: Credentials,
        concurrency: Concurrency,
        prices: Prices,
        model_path: Callable[[Step[Model]], Path],
        options: Options,
        patience: Patience | None = None,
        folder: Path | None = None,
        bus: Bus | None = None,
    ) -> None:
        self._engines = {name: found for name, found in endpoints.items() if isinstance(found, Mapping)}
        self._endpoints = pools(endpoints)
        self.credentials = credentials
        self._concurrency = concurrency
        self._prices = prices
        self.model_path = model_path
        self.options = options
        self.patience = patience or Patience()
        self._folder = folder
        self._bus = bus
        self._paces: dict[str, Pace] = {}
        self._known: dict[str, Deployment] = {}
        self._forms: dict[tuple[int, int, int], tuple[Deployment, RequestForm, Any]] = {}

    def plan(self, by: Ask, schema: Schema | None, tools: tuple[Tool, ...] = ()) -> tuple[Deployment, RequestForm]:
        """Who answers `by`, and how its requests are keyed. Remembered for as long as the same objects ask."""
        asked = (id(by), id(schema), id(tools) if tools else 0)
        known = self._forms.get(asked)
        if known is not None:
            return known[0], known[1]
        deployment = self.of(by)
        form = by.form(deployment.by, deployment.model, schema, tools)
        if len(self._forms) > 1000:
            self._forms.clear()
        self._forms[asked] = (deployment, form, (by, schema, tools))  # held, so that the ids stay theirs
        return deployment, form

    def of(self, by: Ask) -> Deployment:
        identity = canonical(by.by(), content_special(self.node_form), "by")
        identity = short_identity(identity)
        route = digest_of([identity, self._route(by)])
        return self.known(route, lambda: self._made(by, identity))

    def known(self, route: str, make: Callable[[], Deployment]) -> Deployment:
        """The deployment that `route` stands for, made when it is first asked for."""
        if route not in self._known:
            self._known[route] = make()
        return self._known[route]

    def declared(self, name: str) -> Endpoint | None:
        """The endpoint that the session declares under a deployment's id or a URL."""
        pool = self._endpoints.get(name)
        return None if pool is None else pool[0]

    def pool(self, name: str) -> tuple[Endpoint, ...]:
        """All of them; empty where the session declares none."""
        return self._endpoints.get(name, ())

    @property
    def longest_call(self) -> float:
        """Seconds that a call may take at any endpoint that is asked."""
        sources = [source for deployment in self._known.values() for source in deployment.gate.sources]
        return max((each.endpoint.total_timeout for each in sources if each.endpoint is not None), default=0.0)

    async def close(self) -> None:
        for deployment in self._known.values():
            await deployment.close()
        self._known.clear()
        self._paces.clear()
        self._forms.clear()

    def node_form(self, node: Any) -> Any:
        return {"content": folder_digest(self.model_path(node))}

    def _route(self, by: Ask) -> list[Any]:
        if isinstance(by.model, str):
            return [by.model, by.endpoint]
        return [str(self.model_path(by.model)), None]

    def _made(self, by: Ask, identity: Any) -> Deployment:
        pool = None if by.deployment is None else self._endpoints.get(by.deployment)
        if pool is not None:
            model = by.model if isinstance(by.model, str) else type(by.model).__name__
            return self._over_http(by, identity, [at_endpoint(model, each) for each in pool])
        if not isinstance(by.model, str):
            return self._local(by, identity, self.model_path(by.model))
        scheme, rest = scheme_of(by.model), by.model.partition(":")[2]
        if scheme == "python":
            return self._python(by, identity)
        if scheme == "scripted":
            return self._scripted(by, identity, rest)
        if scheme == "local":
            return self._local(by, identity, Path(rest))
        if scheme in ("vllm", "gguf"):
            return self._engine(by, identity, rest)
        if by.endpoint is None:
            return self._over_http(by, identity, [hosted(by.model)])
        endpoint = self.declared(by.endpoint) or Endpoint(by.endpoint)
        return self._over_http(by, identity, [at_endpoint(by.model, endpoint)])

    def _over_http(self, by: Ask, identity: Any, pool: Sequence[tuple[Endpoint, str]]) -> Deployment:
        def connect(endpoint: Endpoint, connections: int, watch: Watch) -> Provider:
            from .providers.connect import provider_over_http

            return provider_over_http(by.name, endpoint, self.credentials, connections, watch, self._another_answers)

        return self.over_http(by, identity, pool, connect)

    def over_http(self, by: Ask, identity: Any, pool: Sequence[tuple[Endpoint, str]], connect: Connect) -> Deployment:
        """A deployment whose servers, each with its name for the model, are paced and reached by `connect`."""
        sources = [self._source(by, endpoint, model, connect) for endpoint, model in pool]
        return Deployment(by.name, identity, pool[0][1], self.price(by), sources, self.patience)

    def in_process(
        self, by: Ask, identity: Any, model: str, make: Callable[[], Provider], width: int | None = None
    ) -> Deployment:
        """A deployment that answers in this process, free unless the session names a price; `width`: calls at once."""
        source = Source(by.name, Pace(width or self.width(by, None)), make)
        return Deployment(by.name, identity, model, self.price(by) or FREE, [source], self.patience)

    def _another_answers(self, message: str, reply: Reply) -> None:
        if self.patience.other_model == "stop":
            hint = 'Ask for the model by its full name, or let it be told alone: `Patience(other_model="tell")`.'
            raise OtherModel(message, hint, reply)
        self._warn(message)

    def _source(self, by: Ask, endpoint: Endpoint, model: str, connect: Connect) -> Source:
        width = self.width(by, endpoint.concurrency)
        pace = self.pace(endpoint, endpoint.model or model, width)
        # Twice as many connections as calls: those that are given up take a while to close.
        source = Source(
            endpoint.url, pace, lambda: connect(endpoint, 2 * width, source.watch), doubted=True, endpoint=endpoint
        )
        return source

    def pace(self, endpoint: Endpoint, model: str, width: int) -> Pace:
        """How fast an endpoint may be asked for a model: one pace, whoever asks in whichever process."""
        key = digest_of(["pace", endpoint.url, model, endpoint.api_key])
        if key not in self._paces:
            bus, facts = self._bus, {"model": model, "endpoint": endpoint.url}
            self._paces[key] = Pace(
                width,
                rpm=endpoint.rpm,
                tpm=endpoint.tpm,
                alone=self.patience.alone,
                probe=endpoint.connect_timeout + 2.0,
                file=None if self._folder is None else PaceFile(self._folder / "pace" / f"{key[:32]}.json"),
                tell=None if bus is None else lambda state: bus.publish("calls.pace", **facts, **state),
            )
        else:
            self._paces[key].limit(endpoint.rpm, endpoint.tpm)
        return self._paces[key]

    def _python(self, by: Ask, identity: Any) -> Deployment:
        function = function_named(str(by.model))

        def make() -> Provider:
            from .providers.python import python_provider

            return python_provider(function)

        return self.in_process(by, identity, str(by.model), make)

    def _scripted(self, by: Ask, identity: Any, name: str) -> Deployment:
        def make() -> Provider:
            from .providers.scripted import scripted_named

            found = scripted_named(name)
            return found if found.waits else found.in_process()

        return self.in_process(by, identity, name, make)

    def _local(self, by: Ask, identity: Any, folder: Path) -> Deployment:
        options = self.options

        def make() -> Provider:
            from .providers.local import LocalModel

            return LocalModel(folder, device=options.device, threads=options.threads, batch=options.inference_batch)

        # Slots for two batches: one is computed while the next one gathers.
        return self.in_process(by, identity, by.name, make, 2 * options.inference_batch)

    def _engine(self, by: Ask, identity: Any, rest: str) -> Deployment:
        """A model that a library of this process runs, with the arguments that the session has for it."""
        name = str(by.model)
        options = self._engines.get(name, {})

        def make() -> Provider:
            from .providers.gguf import GgufModel
            from .providers.vllm import OfflineVllm

            return OfflineVllm(rest, options) if scheme_of(name) == "vllm" else GgufModel(Path(rest), options)

        return self.in_process(by, identity, name, make, _ENGINE_WIDTH)

    def _warn(self, message: str) -> None:
        if self._bus is not None:
            self._bus.publish("warning", message=message)

    def price(self, by: Ask) -> Price | None:
        return price_of(by, self._prices, self._endpoints)

    def width(self, by: Ask, declared: int | None) -> int:
        widths = self._concurrency
        if isinstance(widths, int):
            return declared or widths
        for name in (by.deployment, by.endpoint, by.model):
            if widths is not None and isinstance(name, str) and name in widths:
                return widths[name]
        return declared or DEFAULT_CONCURRENCY


def pools(endpoints: Endpoints) -> dict[str, tuple[Endpoint, ...]]:
    """The servers under each name; raises `RecipeError` where kept replies would be taken for those of others."""
    for name in endpoints:
        if name in HOSTS:
            raise RecipeError(
                f"`{name}` is a provider, and a session cannot move it: kept replies would be taken for others",
                "Name the place in the recipe, by `Ask(model=…, endpoint=…)` or a `deployment`, and declare that.",
            )
    declared = {name: _pool(name, found) for name, found in endpoints.items() if not isinstance(found, Mapping)}
    for name, pool in declared.items():
        for found in pool if "://" in name else ():
            if found.url == name and found.model is None:
                continue
            what = "URL" if found.url != name else "model"
            raise RecipeError(
                f"the endpoint `{name}` is declared with another {what}: kept replies would be taken for others",
                "Write the place and the model in the recipe, or a `deployment`, and declare that.",
            )
    return declared


def _pool(name: str, found: Endpoint | str | Sequence[Endpoint | str]) -> tuple[Endpoint, ...]:
    pool = (found,) if isinstance(found, Endpoint | str) else tuple(found)
    if not pool:
        raise RecipeError(f"`{name}` is declared as a pool of no endpoints", "Give at least one.")
    if "://" in name and len(pool) > 1:
        raise RecipeError(
            f"a pool cannot be declared under the URL `{name}`",
            "Name a `deployment` in the recipe and declare the pool under that name.",
        )
    return tuple(Endpoint(each) if isinstance(each, str) else each for each in pool)


def short_identity(identity: Any) -> Any:
    """The identity with a function's long form digested, as it would otherwise stand in each request that is kept."""
    pairs = dict(identity["map"])
    if "function" in pairs:
        pairs["function"] = digest_of(pairs["function"])
    return pairs
