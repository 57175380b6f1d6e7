"""``python -m tanda.cli`` is ``tanda``."""

from tanda.cli.app import main

main()
