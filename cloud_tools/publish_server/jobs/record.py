"""Owns copying what a site has signed into the table of releases. Refuses to be asked what is true: the site is."""

from django.utils import timezone

from cloud_tools.publish_server.models import Release
from cloud_tools.publishing.model_role import ModelRole
from cloud_tools.publishing.repository import Repository


def record_releases(repository: Repository) -> None:
    """Bring the table up to date; call it with the site's lock held. Rows of what is listed no more stay.

    Raises:
        TrustError: the site's metadata is not what its keys signed.
    """
    for model in repository.models():
        _record(repository.role(model))


def _record(role: ModelRole) -> None:
    channels = role.channels()
    for version, listed in role.releases().items():
        found, _ = Release.objects.get_or_create(
            model=role.model,
            version=version,
            defaults={"digest": listed.digest, "published_at": timezone.now()},
        )
        found.digest, found.withdrawn = listed.digest, listed.target.withdrawn
        found.channels = sorted(name for name, at in channels.items() if at == version)
        # Patches are dropped from what is signed when a newer release comes; the page goes on telling of them.
        patches = listed.target.custom()["patches"] or found.patches
        found.signed = {**listed.target.custom(), "patches": patches}
        found.save()


def known_releases(model: str) -> dict[int, str]:
    """Return the digests of all that was ever published of ``model`` here, by version."""
    return dict(Release.objects.filter(model=model).values_list("version", "digest"))
