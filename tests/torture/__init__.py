"""A kit of failures for programs that write files, and what minise must survive.

The kit knows nothing of minise; except disks.py, which skips tests by pytest, it needs the standard
library only:

- calls.py: see every file call of this process, and decide what happens to it
- failing_files.py: let each call of an action fail in turn, by each error, before, in or after it
- crash.py: power failures after each call; what is not flushed is lost, torn or reordered
- kill.py: kill a command at an instant, a file call or a function, and start it again
- disks.py: full, small, read-only and immutable targets, limits on the size of files
- clocks.py: clocks that jump, stop or go backwards

test_kit.py plants mistakes that the kit must notice. The other tests are of minise; runs.py and
own_run.py are their small training runs.
"""
