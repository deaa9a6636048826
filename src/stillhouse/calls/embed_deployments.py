"""From an `Embedder` to what makes its vectors: provider, slots, price, and who it is in keys."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from stillhouse.core.errors import RecipeError
from stillhouse.core.keys import canonical, digest_of
from stillhouse.core.node import content_special

from .deployment import Deployment, Deployments, short_identity
from .embed_folder import read_encoder
from .embedder import Embedder, Role, function_named, scheme_of
from .endpoint import Endpoint, at_endpoint, hosted
from .providers.embed_protocol import EmbeddingProvider, EmbedForm

if TYPE_CHECKING:
    from .ask import Ask
    from .endpoint import Api
    from .providers.dialect import Watch
    from .providers.protocol import Provider


_TOLD = frozenset({"cohere", "voyage", "gemini"})
"""APIs that are told whether a text is a query or a document."""
_KNOWN = _TOLD | {"openai", "responses", "completions", "azure"}


def embed_deployment(deployments: Deployments, by: Embedder, role: Role) -> tuple[Deployment, EmbedForm, int | None]:
    """Who makes the vectors of `by`, what is the same for all its texts, and where vectors are cut on this machine."""
    finder = _Finder(deployments, by)
    return *finder.found(role), finder.cut


class _Finder:
    def __init__(self, deployments: Deployments, by: Embedder) -> None:
        self._all = deployments
        self._by = by
        self._who = cast("Ask", by)  # names its model, deployment and endpoint as an `Ask` does
        self._scheme = scheme_of(by.model) if isinstance(by.model, str) else "local"

    def found(self, role: Role) -> tuple[Deployment, EmbedForm]:
        deployment = self._deployment()
        by = self._by
        prefix = by.instruction(role)
        declared = self._declared()
        if self._scheme == "local" and declared is None:
            prefix = read_encoder(self._folder(), by.pooling).prompt(role) if prefix is None else prefix
            return deployment, EmbedForm(deployment.model, prefix, pooling=by.pooling)
        if self._scheme is not None and declared is None:
            return deployment, EmbedForm(deployment.model, prefix or "")
        told = self._api(self._pool()[0][0]) in _TOLD
        return deployment, EmbedForm(deployment.model, prefix or "", by.dimensions, role if told else None)

    @property
    def cut(self) -> int | None:
        """Where vectors are cut on this machine: models over HTTP are asked for the number."""
        return self._by.dimensions if self._scheme is not None and self._declared() is None else None

    @property
    def _host(self) -> str:
        return str(self._by.model).partition("/")[0]

    def _declared(self) -> Endpoint | None:
        return None if self._by.deployment is None else self._all.declared(self._by.deployment)

    def _folder(self) -> Path:
        if isinstance(self._by.model, str):
            return Path(self._by.model.partition(":")[2])
        return self._all.model_path(self._by.model)

    def _deployment(self) -> Deployment:
        by = self._by
        identity = short_identity(canonical(by.by(), content_special(self._all.node_form), "by"))
        place = str(self._folder()) if not isinstance(by.model, str) else by.model
        route = digest_of(["embed", identity, place, by.endpoint])
        return self._all.known(route, lambda: self._made(identity))

    def _made(self, identity: Any) -> Deployment:
        by = self._by
        declared = self._declared()
        if declared is None and self._scheme is not None:
            # A function or a model that computes in one thread needs two: one is answered while the next one gathers.
            width = None if self._scheme in ("python", "scripted") else 2
            model = by.name if self._scheme == "local" else str(by.model)
            return self._all.in_process(self._who, identity, model, self._in_process(), width)
        return self._all.over_http(self._who, identity, self._pool(), self._connect)

    def _pool(self) -> list[tuple[Endpoint, str]]:
        """Where the model is asked, and by what name."""
        by = self._by
        model = by.model if isinstance(by.model, str) else by.name
        if self._declared() is not None:
            places = [at_endpoint(model, each) for each in self._all.pool(str(by.deployment))]
        elif by.endpoint is not None:
            places = [at_endpoint(model, self._all.declared(by.endpoint) or Endpoint(by.endpoint))]
        else:
            places = [self._hosted()]
        for endpoint, _ in places:
            if self._api(endpoint) not in _KNOWN:
                raise RecipeError(
                    f"no vectors are known of what is spoken at {endpoint.url} (`{endpoint.api}`)",
                    f"Known are {', '.join(sorted(_KNOWN))}; a function of yours may ask: `python:…`.",
                )
        return [(endpoint, endpoint.model or name) for endpoint, name in places]

    def _api(self, endpoint: Endpoint) -> str:
        """What is spoken at an endpoint."""
        return self._host if self._host == "voyage" and self._is_hosted else endpoint.api or "openai"

    @property
    def _is_hosted(self) -> bool:
        return self._by.endpoint is None and self._declared() is None

    def _hosted(self) -> tuple[Endpoint, str]:
        if self._host in _TOLD:
            from .providers.embed_http import DIALECTS

            endpoint, _ = DIALECTS[self._host]
            api = None if self._host == "voyage" else cast("Api", self._host)
            return replace(endpoint, api=api), str(self._by.model).partition("/")[2]
        return hosted(str(self._by.model))

    def _connect(self, endpoint: Endpoint, connections: int, watch: Watch) -> Provider:
        from .providers.embed_http import BY_API, EmbeddingsOverHttp
        from .providers.place import Place

        place = Place(self._by.name, endpoint, self._all.credentials)
        return cast("Provider", EmbeddingsOverHttp(BY_API[self._api(endpoint)], place, connections, watch))

    def _in_process(self) -> Callable[[], Provider]:
        by, options = self._by, self._all.options

        def make() -> EmbeddingProvider:
            if self._scheme == "python":
                from .providers.embed_python import EmbeddingFunction

                return EmbeddingFunction(function_named(str(by.model)))
            if self._scheme == "scripted":
                from .providers.embed_python import scripted_embedder

                return scripted_embedder(str(by.model).partition(":")[2])
            from .providers.embed_local import LocalEmbeddings

            return LocalEmbeddings(
                self._folder(), device=options.device, threads=options.threads, batch=options.inference_batch
            )

        return _as_provider(make)


def _as_provider(make: Callable[[], EmbeddingProvider]) -> Callable[[], Provider]:
    """A `Deployment` only makes and closes its provider; what it is asked is between the provider and who asks."""
    return cast("Callable[[], Provider]", make)
