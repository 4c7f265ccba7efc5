"""Situations of sites, and the tests that cover each of them."""

from __future__ import annotations

#: By situation: files of tests and the functions in them.
PROOFS = {
    "Celery without django-tasks": "test_celery.py::test_worker_starts_without_task_framework",
    "checks refuse nothing that works": "test_situations.py::test_user_finishes_embed",
    "cookie paths that miss the URLs": "test_checks.py::test_cookie_paths",
    "migrations that are not applied": "test_checks.py::test_unapplied_migration_is_reported",
    "engine without autoescape": "test_checks.py::test_templates",
    "LOGIN_URL that does not resolve": "test_checks.py::test_login_url",
    "origin that is no origin": "test_checks.py::test_origin_is_reported_if_its_embeds_are_refused",
    "include with only, components": (
        "test_templatetags.py::test_request_is_found_without_the_context"
    ),
    "component without context": (
        "third_party/test_recipes.py::test_isolated_component_renders_an_embed"
    ),
    "site below a path": "third_party/test_recipes.py::test_site_below_a_path",
    "transaction of a middleware": "test_views.py::test_transaction_of_a_middleware_is_explained",
    "transaction of django-reversion": (
        "third_party/test_recipes.py::test_subclass_of_revision_middleware_accepts_results"
    ),
    "API of Django REST framework": (
        "third_party/test_recipes.py::test_recipe_for_django_rest_framework"
    ),
    "API of django-ninja": "third_party/test_recipes.py::test_recipe_for_django_ninja",
    "request without a user": "test_embeds.py::test_request_without_a_user_is_anonymous",
    "LOGIN_URL on another host": (
        "test_views.py::test_sign_in_on_another_host_returns_to_this_site"
    ),
    "plain http without Sec-Fetch headers": (
        "test_views.py::test_whole_window_launch_returns_to_the_site"
    ),
    "language of the page": "test_views.py::test_problem_page_has_the_language_of_the_page",
    "language of the answers": "test_views.py::test_sync_responds_in_the_language_of_the_page",
    "language that the script posts": (
        "browser/test_element.py::test_messages_are_in_the_language_of_the_page"
    ),
    "proxy that changes the origin": "test_views.py::test_page_of_another_origin_is_logged",
    "proxy that ends TLS": "test_views.py::test_result_behind_a_tls_proxy",
    "database without the tables": (
        "test_views.py::test_missing_table_is_a_designed_page_with_a_reference"
    ),
    "error in the project's own code": (
        "test_views.py::test_error_of_the_project_is_a_designed_page_with_a_reference"
    ),
    "error of the database": "test_views.py::test_database_error_is_a_designed_page_without_values",
    "jobs with a clock that stands still": (
        "test_clocks.py::test_users_are_provisioned_while_the_clock_is_stopped"
    ),
    "misspelt options": "test_embeds.py::test_misspelt_keyword_is_refused",
    "metadata that is not defined": (
        "test_embeds.py::test_error_names_argument_that_is_not_a_mapping"
    ),
    "tests with a clock that stands still": (
        "third_party/test_tools.py::test_stopped_clock_blocks_nothing"
    ),
    "tests with a mock that is not used": (
        "third_party/test_tools.py::test_ineffective_mock_does_not_reach_the_real_api"
    ),
    "fragment cache": "test_docs.py::test_fragment_cache_keeps_users_apart",
    "page without Django templates": "browser/test_libraries.py::test_element_is_built_from_data",
    "client without a session cookie": "test_one_time.py::test_link_is_used_once",
    "app with a token": (
        "browser/test_one_time.py::test_visitor_finishes_and_starts_again_with_another_link"
    ),
    "types of the element": ("test_embeds.py::test_typescript_types_match_the_code"),
    "morphing re-render": (
        "browser/test_libraries.py::test_running_embed_survives_a_newer_copy_of_its_page"
    ),
    "hx-boost on an ancestor": "browser/test_libraries.py::test_links_of_an_embed_are_not_boosted",
    "boosted navigation": "browser/test_libraries.py::test_boosted_link_to_a_page_with_an_embed",
    "static files on another host": (
        "third_party/test_recipes.py::test_static_files_on_another_host"
    ),
    "script combiner": "browser/test_libraries.py::test_script_works_without_type_module",
    "site inside the frame of an LMS": (
        "test_views.py::test_every_endpoint_works_outside_of_transactions_and_caches"
    ),
    "preview of a page": "test_embeds.py::test_preview_shows_the_title_and_opens_no_session",
    "impersonation": (
        "test_impersonation.py::test_end_of_an_impersonation_leaves_the_sessions_of_the_user_open"
    ),
    "impersonation that swaps the user of a request": (
        "third_party/test_recipes.py::test_staff_member_acts_as_a_user"
    ),
    "catch-all above the include": "test_checks.py::test_urls",
    "Permissions-Policy that forbids a feature": "test_checks.py::test_permissions_policy",
    "error trackers": "test_collectors.py::test_collector_receives_no_secret",
    "type checkers of the project": "typing/api.py::query_models",
    "exports": "test_exports.py::test_export_of_sessions_holds_no_secret",
}
