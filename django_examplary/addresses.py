"""Find the paths of the views of this app, wherever the project includes its URLs."""

from __future__ import annotations

from django.urls import URLResolver, get_resolver, get_urlconf, reverse

APP_NAME = "django_examplary"


def find_namespace(resolver: URLResolver | None = None) -> str:
    """Return the namespace of this app's views, such as "school:django_examplary".

    By default, search the URLconf of the current request, or ROOT_URLCONF.
    Return an empty string if the URLs are not included there.
    """
    if resolver is None:
        resolver = get_resolver(get_urlconf())
    if APP_NAME in resolver.app_dict:
        return APP_NAME
    for namespace, (_, nested) in resolver.namespace_dict.items():
        if found := find_namespace(nested):
            return f"{namespace}:{found}"
    return ""


def reverse_view(name: str, *args: str) -> str:
    """Return the path of a view, by its name in `urls.py`.

    Raises NoReverseMatch if the URLconf doesn't include the URLs.
    """
    return reverse(f"{find_namespace() or APP_NAME}:{name}", args=args)
