"""From an `Ask` to the thing that answers: provider, slots, price, and who it is in keys."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stillhouse.core.errors import RecipeError
from stillhouse.core.keys import canonical, digest_of, folder_digest
from stillhouse.core.node import content_special

from .ask import Ask, function_named, scheme_of
from .credentials import Credentials
from .endpoint import HOSTS, Endpoint, hosted, served_name
from .gate import Gate
from .prices import FREE, Price, Prices, price_of
from .providers.protocol import InProcess, Provider
from .reply import Usage
from .request import Request, RequestForm

if TYPE_CHECKING:
    from stillhouse.core.artifact import Model
    from stillhouse.core.options import Options
    from stillhouse.core.step import Step
    from stillhouse.text.schema import Schema

DEFAULT_CONCURRENCY = 32
_GUESSED_REPLY_TOKENS = 1000
_CHARACTERS_PER_TOKEN = 3.0  # on the careful side: English has 4 to 5

Concurrency = int | Mapping[str, int] | None
"""Calls at once for each deployment, or by the name of the model, deployment or endpoint."""


class Deployment:
    """One way of being answered, shared by all `Ask`s that come down to it. `by` is its canonical form in call keys."""

    def __init__(
        self, name: str, by: Any, model: str, price: Price | None, concurrency: int, make: Callable[[], Provider]
    ) -> None:
        self.name = name
        self.by = by
        self.model = model
        self.price = price
        self.gate = Gate(concurrency)
        self.silent_since: float | None = None
        """Loop time of the first connection that nobody answered, since the last one that somebody did."""
        self._make = make
        self._provider: Provider | None = None
        self._replies = 0
        self._reply_tokens = 0

    @property
    def provider(self) -> Provider:
        """Made at the first call: what is answered from the cache needs neither key nor network."""
        if self._provider is None:
            self._provider = self._make()
        return self._provider

    @property
    def in_process(self) -> InProcess | None:
        """The provider, where it answers many requests in one go."""
        provider = self.provider
        return provider if isinstance(provider, InProcess) else None

    def cost(self, usage: Usage) -> float | None:
        return None if self.price is None else self.price.cost(usage)

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
        """A reply came: somebody is there, and replies are about that long."""
        self.silent_since = None
        self._replies += 1
        self._reply_tokens += usage.reply_tokens

    async def close(self) -> None:
        if self._provider is not None:
            await self._provider.close()
            self._provider = None


class Deployments:
    """Finds the deployment of an `Ask`. What the session says about places and widths stands here, and in no key."""

    def __init__(
        self,
        *,
        endpoints: Mapping[str, Endpoint | str],
        credentials: Credentials,
        concurrency: Concurrency,
        prices: Prices,
        model_path: Callable[[Step[Model]], Path],
        options: Options,
    ) -> None:
        for name in endpoints:
            if name in HOSTS:
                raise RecipeError(
                    f"`{name}` is a provider, and a session cannot move it: kept replies would be taken for others",
                    "Name the place in the recipe, by `Ask(model=…, endpoint=…)` or a `deployment`, and declare that.",
                )
        self._endpoints = {
            name: Endpoint(found) if isinstance(found, str) else found for name, found in endpoints.items()
        }
        for name, found in self._endpoints.items():
            if "://" in name and (found.url != name or found.model is not None):
                raise RecipeError(
                    f"the endpoint `{name}` is declared with another {'URL' if found.url != name else 'model'}: kept "
                    "replies would be taken for others",
                    "Write the place and the model in the recipe, or a `deployment`, and declare that.",
                )
        self.credentials = credentials
        self._concurrency = concurrency
        self._prices = prices
        self.model_path = model_path
        self.options = options
        self._known: dict[str, Deployment] = {}
        self._forms: dict[tuple[int, int], tuple[Ask, Schema | None, Deployment, RequestForm]] = {}

    def plan(self, by: Ask, schema: Schema | None) -> tuple[Deployment, RequestForm]:
        """Who answers `by`, and how its requests are keyed. Remembered for as long as the same objects ask."""
        known = self._forms.get((id(by), id(schema)))
        if known is not None:
            return known[2], known[3]
        deployment = self.of(by)
        form = RequestForm(deployment.by, deployment.model, by.sampling, schema, by.system)
        if len(self._forms) > 1000:
            self._forms.clear()
        self._forms[id(by), id(schema)] = (by, schema, deployment, form)  # held, so that the ids stay theirs
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
        return self._endpoints.get(name)

    async def close(self) -> None:
        for deployment in self._known.values():
            await deployment.close()
        self._known.clear()
        self._forms.clear()

    def node_form(self, node: Any) -> Any:
        return {"content": folder_digest(self.model_path(node))}

    def _route(self, by: Ask) -> list[Any]:
        if isinstance(by.model, str):
            return [by.model, by.endpoint]
        return [str(self.model_path(by.model)), None]

    def _made(self, by: Ask, identity: Any) -> Deployment:
        declared = None if by.deployment is None else self._endpoints.get(by.deployment)
        if declared is not None:
            model = by.model if isinstance(by.model, str) else type(by.model).__name__
            return self._over_http(by, identity, declared, served_name(model))
        if not isinstance(by.model, str):
            return self._local(by, identity, self.model_path(by.model))
        scheme, rest = scheme_of(by.model), by.model.partition(":")[2]
        if scheme == "python":
            return self._python(by, identity)
        if scheme == "scripted":
            return self._scripted(by, identity, rest)
        if scheme == "local":
            return self._local(by, identity, Path(rest))
        if by.endpoint is None:
            endpoint, model = hosted(by.model)
            return self._over_http(by, identity, endpoint, model)
        endpoint = self._endpoints.get(by.endpoint) or Endpoint(by.endpoint)
        return self._over_http(by, identity, endpoint, served_name(by.model))

    def _over_http(self, by: Ask, identity: Any, endpoint: Endpoint, model: str) -> Deployment:
        width = self.width(by, endpoint.concurrency)

        def make() -> Provider:
            from .providers.connect import provider_over_http

            return provider_over_http(by.name, endpoint, self.credentials, width)

        return Deployment(by.name, identity, model, self.price(by), width, make)

    def _python(self, by: Ask, identity: Any) -> Deployment:
        function = function_named(str(by.model))

        def make() -> Provider:
            from .providers.python import python_provider

            return python_provider(function)

        return Deployment(by.name, identity, str(by.model), self.price(by) or FREE, self.width(by, None), make)

    def _scripted(self, by: Ask, identity: Any, name: str) -> Deployment:
        def make() -> Provider:
            from .providers.scripted import scripted_named

            found = scripted_named(name)
            return found if found.waits else found.in_process()

        return Deployment(by.name, identity, name, self.price(by) or FREE, self.width(by, None), make)

    def _local(self, by: Ask, identity: Any, folder: Path) -> Deployment:
        options = self.options

        def make() -> Provider:
            from .providers.local import LocalModel

            return LocalModel(folder, device=options.device, threads=options.threads, batch=options.inference_batch)

        # Slots for two batches: one is computed while the next one gathers.
        return Deployment(by.name, identity, by.name, self.price(by) or FREE, 2 * options.inference_batch, make)

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


def short_identity(identity: Any) -> Any:
    """The identity with a function's long form digested, as it would otherwise stand in each request that is kept."""
    pairs = dict(identity["map"])
    if "function" in pairs:
        pairs["function"] = digest_of(pairs["function"])
    return pairs
