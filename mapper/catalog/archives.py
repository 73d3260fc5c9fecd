"""The archives of one map: what its collections are, wherever each of them comes from."""

from mapper.catalog.provider import Provider, load_provider
from mapper.errors import SpecError
from mapper.spec import CatalogSpec, MapSpec


def provider_of(spec: MapSpec) -> Provider:
    """One provider that describes every collection of a map, and those of its main catalogue besides.

    Raises:
        SpecError: If a provider is unknown, or does not describe what is asked of it.
    """
    main = provider_at(spec.catalog)
    others = {name: provider_at(home) for name, home in spec.catalogs.items() if home != spec.catalog}
    if not others:
        return main
    providers = {provider.name: provider for provider in (main, *others.values())}
    return main.model_copy(
        update={
            "name": " + ".join(providers),
            "title": " + ".join(provider.title for provider in providers.values()),
            "licence": "; ".join(f"{name}: {provider.licence}" for name, provider in providers.items()),
            "attribution": "; ".join(dict.fromkeys(provider.attribution for provider in providers.values())),
            "collections": main.collections | {name: provider.rule(name) for name, provider in others.items()},
        }
    )


def provider_at(home: CatalogSpec) -> Provider:
    """The provider of a catalogue, with what the map overrides of it.

    Raises:
        SpecError: If it is unknown or not valid.
    """
    return load_provider(home.provider, override=home.override)


def location_of(home: CatalogSpec) -> str:
    """Where a catalogue is asked: its own place, else the provider's endpoint.

    Raises:
        SpecError: If there is neither.
    """
    provider = provider_at(home)
    location = home.href or provider.endpoint
    if location is None:
        raise SpecError(f"provider {provider.name} has no endpoint of its own: give catalog.href")
    return location
