// Empty: lets engine.go declare a function whose body is elsewhere.
