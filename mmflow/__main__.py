"""`python -m mmflow`."""

from mmflow.cli.main import main
from mmflow.cli.process_exit import exit_process

exit_process(main())
