"""From an `Embedder` to what makes its vectors: provider, slots, price, and who it is in keys."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from stillhouse.core.keys import canonical, digest_of
from stillhouse.core.node import content_special

from .deployment import Deployment, Deployments, short_identity
from .embed_folder import read_encoder
from .embedder import Embedder, Role, function_named, scheme_of
from .endpoint import Endpoint, hosted, served_name
from .providers.embed_protocol import EmbeddingProvider, EmbedForm

if TYPE_CHECKING:
    from .ask import Ask
    from .providers.dialect import Watch
    from .providers.protocol import Provider


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
        told = declared is None and by.endpoint is None and self._host in _own_apis()
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
        if declared is not None:
            name = served_name(by.model if isinstance(by.model, str) else by.name)
            pool = [(each, each.model or name) for each in self._all.pool(str(by.deployment))]
        elif by.endpoint is not None:
            endpoint = self._all.declared(by.endpoint) or Endpoint(by.endpoint)
            pool = [(endpoint, endpoint.model or served_name(str(by.model)))]
        else:
            pool = [self._hosted()]
        return self._all.over_http(self._who, identity, pool, self._connect)

    def _hosted(self) -> tuple[Endpoint, str]:
        from .providers.embed_http import DIALECTS

        if self._host in DIALECTS:
            return DIALECTS[self._host][0], str(self._by.model).partition("/")[2]
        return hosted(str(self._by.model))

    def _connect(self, endpoint: Endpoint, connections: int, watch: Watch) -> Provider:
        from .providers.embed_http import DIALECTS, EmbeddingsOverHttp, OpenAIEmbeddings
        from .providers.place import Place

        own = self._by.endpoint is None and self._declared() is None
        dialect = DIALECTS[self._host][1] if own and self._host in DIALECTS else OpenAIEmbeddings()
        place = Place(self._by.name, endpoint, self._all.credentials)
        return cast("Provider", EmbeddingsOverHttp(dialect, place, connections, watch))

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


def _own_apis() -> frozenset[str]:
    return frozenset({"cohere", "voyage", "gemini"})
