"""Owns the page of a person's tokens: making one, which is shown once, and revoking it. Refuses other people's."""

from django import forms
from django.contrib import messages
from django.contrib.auth.models import User
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils import timezone
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods, require_POST

from cloud_tools.publish_server.models import Token
from cloud_tools.publish_server.models.audit import record
from cloud_tools.publish_server.models.token import Scope, digest_of, new_token


class TokenForm(forms.Form):
    """What a new token is called, and what it may do."""

    name = forms.CharField(label=_("Name"), max_length=64)
    scopes = forms.MultipleChoiceField(
        label=_("May"),
        choices=Scope.choices,
        widget=forms.CheckboxSelectMultiple,
        initial=[Scope.READ, Scope.PUBLISH],
    )


def make_token(user: User, name: str, scopes: list[str]) -> str:
    """Return a new token of ``user``; only its digest stays here."""
    text = new_token()
    token = Token.objects.create(user=user, name=name, digest=digest_of(text), scopes=" ".join(sorted(scopes)))
    record("token.made", name, user, token=token.pk, scopes=token.scopes)
    return text


@never_cache
@require_http_methods(["GET", "POST"])
def tokens(request: HttpRequest) -> HttpResponse:
    """Show the person's tokens; a new one is on this answer alone."""
    user = request.user
    assert isinstance(user, User)  # the middleware lets nobody else come here
    form, made = TokenForm(request.POST or None), ""
    if request.method == "POST" and form.is_valid():
        made = make_token(user, form.cleaned_data["name"], form.cleaned_data["scopes"])
        form = TokenForm()
    own = Token.objects.filter(user=user)
    return render(request, "pages/tokens.html", {"form": form, "made": made, "tokens": own})


@require_POST
def revoke(request: HttpRequest, pk: int) -> HttpResponse:
    """End a token."""
    user = request.user
    assert isinstance(user, User)  # as above
    token = get_object_or_404(Token, pk=pk, user=user)
    if Token.objects.filter(pk=pk, revoked_at=None).update(revoked_at=timezone.now()):
        record("token.revoked", token.name, user, token=pk)
        messages.success(request, gettext("The token counts no more."))
    return redirect("tokens")
