"""nbgrader's settings: where exercises come from and go to, and what stands in place of a solution. See docs/grading.md."""

c = get_config()  # type: ignore[name-defined]

c.CourseDirectory.course_id = "minilm"
c.CourseDirectory.source_directory = "solutions"
c.CourseDirectory.release_directory = "exercises"

# A stub that `check` knows as "not started".
c.ClearSolutions.code_stub = {"python": "raise NotImplementedError"}
c.ClearSolutions.text_stub = "*Your answer here.*"

# A check stops after 20 seconds by itself; this is for code around it.
c.ExecutePreprocessor.timeout = 120
