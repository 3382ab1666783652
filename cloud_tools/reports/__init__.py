"""An evaluation as data, table and page. Refuses to judge a release."""
