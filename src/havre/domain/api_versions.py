"""The versions of OCI's APIs whose paths are taken for the API's, wherever they occur in a path."""

API_VERSIONS = (
    "20190101",  # Data Science
    "20180409",  # Resource Search
    "20190909",  # Logging Search
    "20200531",  # Logging
    "20180401",  # Monitoring
    "20160918",  # Identity: nothing is there, which its clients are told in the API's form
)
"""Those that are answered, and those whose clients are to get an error that says what is here."""
