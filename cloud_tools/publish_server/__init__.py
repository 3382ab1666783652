"""The publish server: releases, jobs and who did what, as pages and as an API. Refuses to judge a release.

A Django project over ``cloud_tools.publishing``, which does the work and raises the errors that are shown here. Only
``cloud_tools.commands`` starts it; no other room of ours imports it.
"""
