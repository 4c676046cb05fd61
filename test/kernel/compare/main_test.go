package main

import (
	"strings"
	"testing"
)

const passing = `=== RUN   TestWalks
=== RUN   TestWalks/pod-to-pod,_leaving
--- PASS: TestWalks (2.10s)
    --- PASS: TestWalks/pod-to-pod,_leaving (0.50s)
=== RUN   TestGap
    ovs_restart_test.go:31: figure: no packet for 12 ms
--- PASS: TestGap (1.00s)
PASS
`

func compared(t *testing.T, netdev, system string) (string, bool) {
	t.Helper()
	var runs []run
	for name, text := range map[string]string{"netdev": netdev, "system": system} {
		r, err := read(name, strings.NewReader(text))
		if err != nil {
			t.Fatal(err)
		}
		runs = append(runs, r)
	}
	var out strings.Builder
	good := table(&out, runs)
	return out.String(), good
}

func TestResultsStandBesideOneAnother(t *testing.T) {
	out, good := compared(t, passing, passing)
	if !good {
		t.Error("everything passed, and it is not good")
	}
	for _, want := range []string{"  pod-to-pod, leaving  pass 0.50 s  pass 0.50 s", "Gap, system: no packet for 12 ms", "3 of 3 pass wherever they have a meaning", "all                    3 s          3 s"} {
		if !strings.Contains(out, want) {
			t.Errorf("the table lacks %q:\n%s", want, out)
		}
	}
}

func TestATestWithoutMeaningSomewhereSaysSo(t *testing.T) {
	elsewhere := strings.Replace(strings.Replace(passing, "--- PASS: TestGap", "--- SKIP: TestGap", 1), "figure: no packet for 12 ms", "only on the kernel's datapath", 1)
	out, good := compared(t, elsewhere, passing)
	if want := "Gap, netdev: only on the kernel's datapath"; !good || !strings.Contains(out, want) || !strings.Contains(out, "no meaning here") {
		t.Errorf("good is %t, and the table is to have %q:\n%s", good, want, out)
	}
	parts := strings.Replace(passing, "--- PASS: TestGap (1.00s)\n", "--- PASS: TestGap (1.00s)\n    --- PASS: TestGap/row/cell (0.25s)\n", 1)
	if out, good := compared(t, elsewhere, parts); !good || strings.Contains(out, "did not run") {
		t.Errorf("parts of a test without meaning have none; good is %t:\n%s", good, out)
	}
	if out, good := compared(t, passing, parts); good {
		t.Errorf("a part did not run, and it is good:\n%s", out)
	}
	if out, good := compared(t, elsewhere, elsewhere); good {
		t.Errorf("a test that has a meaning nowhere is good:\n%s", out)
	}
}

func TestWhatFailedOrDidNotRunSomewhereIsNotGood(t *testing.T) {
	for what, other := range map[string]string{
		"fail 2.10 s": strings.Replace(passing, "--- PASS: TestWalks (", "--- FAIL: TestWalks (", 1),
		"did not run": strings.Replace(passing, "--- PASS: TestGap (1.00s)\n", "", 1),
		"skip 1.00 s": strings.Replace(passing, "--- PASS: TestGap", "--- SKIP: TestGap", 1),
	} {
		if out, good := compared(t, passing, other); good || !strings.Contains(out, what) {
			t.Errorf("%s: good is %t:\n%s", what, good, out)
		}
	}
	if _, good := compared(t, "", ""); good {
		t.Error("no test at all is good")
	}
}
