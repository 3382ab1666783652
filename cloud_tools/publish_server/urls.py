"""Owns which address leads where. Refuses to answer."""

from django.contrib.auth.views import LoginView, LogoutView
from django.urls import URLPattern, URLResolver, path, register_converter
from django.urls.converters import StringConverter
from django.views.generic import RedirectView

from cloud_tools.publish_server.api.api import api
from cloud_tools.publish_server.pages import tokens, views


def _open_to_tokens(patterns: list[URLPattern | URLResolver]) -> list[URLPattern | URLResolver]:
    """The API asks for tokens by itself; sending its users to the login page would be no answer."""
    for pattern in patterns:
        if isinstance(pattern, URLPattern):
            pattern.callback.login_required = False  # type: ignore[attr-defined]
    return patterns


class NameConverter(StringConverter):
    """A model's name (``contract.checks.safe_name``)."""

    regex = "[A-Za-z0-9][A-Za-z0-9._-]{0,63}"


register_converter(NameConverter, "name")
_API, _APP, _SPACE = api.urls

urlpatterns = [
    path("", RedirectView.as_view(pattern_name="releases"), name="home"),
    path("login/", LoginView.as_view(redirect_authenticated_user=True), name="login"),
    path("logout/", LogoutView.as_view(), name="logout"),
    path("releases/", views.releases, name="releases"),
    path("releases/<name:model>/<int:version>/", views.release, name="release"),
    path("releases/<name:model>/<int:version>/withdraw/", views.withdraw, name="withdraw"),
    path("jobs/", views.jobs, name="jobs"),
    path("jobs/<int:pk>/", views.job, name="job"),
    path("audit/", views.audit, name="audit"),
    path("tokens/", tokens.tokens, name="tokens"),
    path("tokens/<int:pk>/revoke/", tokens.revoke, name="revoke"),
    path("api/", (_open_to_tokens(_API), _APP, _SPACE)),
]
