from havre.operate.bringup import passed_on


def test_only_what_the_control_plane_needs_is_passed_on():
    shell = {
        "PATH": "/bin",
        "UV_DEFAULT_INDEX": "index",
        "https_proxy": "proxy",
        "NO_PROXY": "localhost",
        "AWS_PROFILE": "store",
        "HAVRE_AUTH": "oci",
        # Where it is reached is not its own business, and the rest of a shell even less.
        "HAVRE_PORT": "1",
        "GITHUB_TOKEN": "secret",
        "PS1": "$",
    }
    kept = {"PATH", "UV_DEFAULT_INDEX", "https_proxy", "NO_PROXY", "AWS_PROFILE", "HAVRE_AUTH"}
    assert set(passed_on(shell)) == kept
