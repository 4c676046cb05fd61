package configfile

import (
	"cmp"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
)

// Problem is one thing that is wrong with a file.
type Problem struct {
	// Line is where, from 1. For something that is missing it is the line of
	// what should contain it.
	Line int
	// Path is the field ("nodes[2].ip"); empty for the file as a whole.
	Path string
	// Reason says what is wrong, as a phrase without a full stop.
	Reason string
}

// Error is everything that is wrong with a file.
type Error struct {
	// File is the name that was given to Load or Parse.
	File string
	// Problems has at least one, in order of lines.
	Problems []Problem
}

// Error has one line "FILE:LINE: path: reason" a problem.
func (e *Error) Error() string {
	var b strings.Builder
	for i, p := range e.Problems {
		if i > 0 {
			b.WriteByte('\n')
		}
		fmt.Fprintf(&b, "%s:%d: ", e.File, p.Line)
		if p.Path != "" {
			b.WriteString(p.Path + ": ")
		}
		b.WriteString(p.Reason)
	}
	return b.String()
}

// Report collects what a program's own check finds. It belongs to the check
// that it was given to.
type Report struct {
	decoder *decoder
	prefix  string
}

// Addf adds a problem with the field at path ("nodes[2].ip", relative to the
// report's own place; empty for that place itself). The line is that of the
// field, or of what contains it when the file leaves it out. A field that
// could not be read is reported as that alone, so a check need not know
// whether a zero value was written.
func (r *Report) Addf(path, format string, args ...any) {
	full := join(r.prefix, path)
	if r.decoder.isBroken(full) {
		return
	}
	r.decoder.add(r.decoder.line(full), full, fmt.Sprintf(format, args...))
}

// In answers a report whose paths start at path, for the check of a building
// block that does not know where it stands.
func (r *Report) In(path string) *Report {
	return &Report{decoder: r.decoder, prefix: join(r.prefix, path)}
}

// Given tells whether the file says something at the path, be it the default.
func (r *Report) Given(path string) bool {
	_, given := r.decoder.lines[join(r.prefix, path)]
	return given
}

// Required adds a problem when value is empty.
func (r *Report) Required(path, value string) {
	if value == "" {
		r.Addf(path, "required")
	}
}

// HostPort adds a problem when value is not "HOST:PORT" with a numeric port,
// as net.Listen and net.Dial take it. The host may be empty; port 0 is
// allowed, and means any when listening.
func (r *Report) HostPort(path, value string) {
	if value == "" {
		r.Addf(path, "required")
		return
	}
	_, port, err := net.SplitHostPort(value)
	if err != nil {
		r.Addf(path, "%q is not HOST:PORT", value)
		return
	}
	if _, err := strconv.ParseUint(port, 10, 16); err != nil {
		r.Addf(path, "port %q is not a number from 0 to 65535", port)
	}
}

// join adds a relative path to a place. An index needs no dot before it.
func join(place, path string) string {
	if place == "" || path == "" || strings.HasPrefix(path, "[") {
		return place + path
	}
	return place + "." + path
}

// parent answers the path of what contains path, and false at the top.
func parent(path string) (string, bool) {
	if path == "" {
		return "", false
	}
	return path[:max(strings.LastIndexAny(path, ".["), 0)], true
}

func (d *decoder) add(line int, path, reason string) {
	d.problems = append(d.problems, Problem{Line: line, Path: path, Reason: reason})
}

// line answers where path is written, or what contains it.
func (d *decoder) line(path string) int {
	for {
		if line, ok := d.lines[path]; ok {
			return line
		}
		path, _ = parent(path)
	}
}

// isBroken says whether path, or what contains it, could not be read.
func (d *decoder) isBroken(path string) bool {
	for ok := true; ok; path, ok = parent(path) {
		if d.broken[path] {
			return true
		}
	}
	return false
}

func (d *decoder) err(file string) error {
	if len(d.problems) == 0 {
		return nil
	}
	slices.SortStableFunc(d.problems, func(a, b Problem) int { return cmp.Compare(a.Line, b.Line) })
	return &Error{File: file, Problems: d.problems}
}
