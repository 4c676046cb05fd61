// Command compare prints the results of the same tests on several datapaths beside one
// another.
//
//	compare netdev=FILE system=FILE
//
// Each file is what a test program printed with -test.v. It promises to fail unless
// every test that is in one of them passed in all of them. A test that has a meaning on
// some of them only says so when it skips itself elsewhere, with a reason that begins
// with "only"; it has to pass on one at least. It must not run anything.
package main

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
)

func main() {
	if len(os.Args) < 3 {
		fmt.Fprintln(os.Stderr, "usage: compare NAME=FILE NAME=FILE ...")
		os.Exit(2)
	}
	var runs []run
	for _, arg := range os.Args[1:] {
		name, path, _ := strings.Cut(arg, "=")
		file, err := os.Open(path)
		if err == nil {
			var r run
			r, err = read(name, file)
			runs = append(runs, r)
			file.Close()
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, "compare:", err)
			os.Exit(2)
		}
	}
	if !table(os.Stdout, runs) {
		os.Exit(1)
	}
}

// run is what one run of the tests came to.
type run struct {
	name    string
	order   []string          // tests, in the order of the file
	results map[string]result // by test
	figures map[string][]string
}

// result is of one test.
type result struct {
	verdict, seconds string
	only             string // why it was skipped, if it has no meaning here
}

// words are the result in the table.
func (r result) words() string {
	switch {
	case r.verdict == "":
		return "did not run"
	case r.only != "":
		return "no meaning here"
	}
	return r.verdict + " " + r.seconds + " s"
}

var (
	resultLine = regexp.MustCompile(`^\s*--- (PASS|FAIL|SKIP): (\S+) \(([0-9.]+)s\)`)
	// startLine is written before what a test logs.
	startLine = regexp.MustCompile(`^=== (?:RUN|NAME|CONT)\s+(\S+)`)
	// figureLine is a log line that says that it is a figure to compare.
	figureLine = regexp.MustCompile(`^\s+\S+_test\.go:\d+: figure: (.*)$`)
	// onlyLine is a log line of a test that skips itself.
	onlyLine = regexp.MustCompile(`^\s+\S+_test\.go:\d+: (only .*)$`)
)

// read takes the results out of what a test program printed.
func read(name string, from io.Reader) (run, error) {
	r := run{name: name, results: map[string]result{}, figures: map[string][]string{}}
	current, only := "", map[string]string{}
	lines := bufio.NewScanner(from)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		line := lines.Text()
		if m := startLine.FindStringSubmatch(line); m != nil {
			current = m[1]
		} else if m := figureLine.FindStringSubmatch(line); m != nil {
			r.figures[current] = append(r.figures[current], m[1])
		} else if m := onlyLine.FindStringSubmatch(line); m != nil {
			only[current] = m[1]
		} else if m := resultLine.FindStringSubmatch(line); m != nil {
			current = m[2]
			if _, seen := r.results[current]; !seen {
				r.order = append(r.order, current)
			}
			got := result{verdict: strings.ToLower(m[1]), seconds: m[3]}
			if got.verdict == "skip" {
				got.only = only[current]
			}
			r.results[current] = got
		}
	}
	return r, lines.Err()
}

// table prints all tests and tells whether all of them passed wherever they have a
// meaning. A test that was skipped otherwise has not passed.
func table(to io.Writer, runs []run) bool {
	var tests []string
	for _, r := range runs {
		for _, test := range r.order {
			if !slices.Contains(tests, test) {
				tests = append(tests, test)
			}
		}
	}
	w := tabwriter.NewWriter(to, 0, 0, 2, ' ', 0)
	header := "TEST"
	for _, r := range runs {
		header += "\t" + strings.ToUpper(r.name)
	}
	fmt.Fprintln(w, header)
	good, passed := len(tests) > 0, 0
	for _, test := range tests {
		row, all, some := words(test), true, false
		for _, r := range runs {
			got := r.of(test)
			all = all && (got.verdict == "pass" || got.only != "")
			some = some || got.verdict == "pass"
			row += "\t" + got.words()
		}
		fmt.Fprintln(w, row)
		if all && some {
			passed++
		}
		good = good && all && some
	}
	row := "all"
	for _, r := range runs {
		row += fmt.Sprintf("\t%.0f s", r.seconds())
	}
	fmt.Fprintln(w, row)
	_ = w.Flush()
	for _, test := range tests {
		for _, r := range runs {
			if why := r.results[test].only; why != "" {
				fmt.Fprintf(to, "%s, %s: %s\n", words(test), r.name, why)
			}
			for _, figure := range r.figures[test] {
				fmt.Fprintf(to, "%s, %s: %s\n", words(test), r.name, figure)
			}
		}
	}
	fmt.Fprintf(to, "%d of %d pass wherever they have a meaning\n", passed, len(tests))
	return good
}

// of answers the result of a test. Parts of one that has no meaning here have none either.
func (r run) of(test string) result {
	got, ran := r.results[test]
	for whole := test; !ran && strings.Contains(whole, "/"); {
		whole = whole[:strings.LastIndex(whole, "/")]
		if above := r.results[whole]; above.only != "" {
			return above
		}
	}
	return got
}

// seconds is how long all tests took together.
func (r run) seconds() float64 {
	sum := 0.0
	for test, got := range r.results {
		if s, err := strconv.ParseFloat(got.seconds, 64); err == nil && !strings.Contains(test, "/") {
			sum += s
		}
	}
	return sum
}

// words is a test's name as a reader wants it: subtests indented below their test.
func words(test string) string {
	parts := strings.Split(strings.TrimPrefix(test, "Test"), "/")
	return strings.Repeat("  ", len(parts)-1) + strings.ReplaceAll(parts[len(parts)-1], "_", " ")
}
