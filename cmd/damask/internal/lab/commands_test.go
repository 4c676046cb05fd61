package lab

import (
	"bytes"
	"errors"
	"maps"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	labv1 "github.com/damask-sdn/damask/proto/damask/lab/v1"
)

func TestSignalsAreReadByNameAndNumber(t *testing.T) {
	for text, want := range map[string]unix.Signal{
		"KILL": unix.SIGKILL, "SIGTERM": unix.SIGTERM, "stop": unix.SIGSTOP, "9": unix.SIGKILL, "64": 64,
	} {
		if got, err := parseSignal(text); err != nil || got != want {
			t.Errorf("%q: got %v, %v, want %v", text, got, err, want)
		}
	}
	for _, text := range []string{"", "0", "65", "-9", "NOPE", "SIG"} {
		if got, err := parseSignal(text); err == nil {
			t.Errorf("%q: got %v, want it refused", text, got)
		}
	}
}

func TestLabelsAreReadAndAllWrongOnesNamed(t *testing.T) {
	got, err := parsePairs("labels", []string{"a=b", "c=", "d=e=f"})
	if want := map[string]string{"a": "b", "c": "", "d": "e=f"}; err != nil || !maps.Equal(got, want) {
		t.Errorf("got %v, %v, want %v", got, err, want)
	}
	if _, err := parsePairs("labels", []string{"a=b", "novalue", "a=c"}); err == nil || !strings.Contains(err.Error(), "novalue, a=c") {
		t.Errorf("got %v, want both wrong ones named", err)
	}
}

func TestPodsAreNamedByNamespaceAndName(t *testing.T) {
	if namespace, name, err := podName("red/web.1"); err != nil || namespace != "red" || name != "web.1" {
		t.Errorf("got %q, %q, %v", namespace, name, err)
	}
	for _, text := range []string{"", "web", "/web", "red/"} {
		if _, _, err := podName(text); err == nil {
			t.Errorf("%q was accepted", text)
		}
	}
}

func TestTheExitCodeOfACommandInALabIsThisProgramsOwn(t *testing.T) {
	for name, c := range map[string]struct {
		err    error
		code   int
		silent bool
	}{
		"success":           {nil, 0, true},
		"a command's code":  {&ExitError{Code: 42}, 42, true},
		"a failure of ours": {errors.New("x"), 1, false},
	} {
		if code, silent := ExitCode(c.err); code != c.code || silent != c.silent {
			t.Errorf("%s: got %d, %t", name, code, silent)
		}
	}
}

// run runs the command line as main does, up to where it would need a lab.
func run(args ...string) error {
	root := &cobra.Command{Use: "damask", SilenceErrors: true, SilenceUsage: true}
	AddCommands(root)
	root.SetArgs(args)
	root.SetOut(&bytes.Buffer{})
	return root.Execute()
}

func TestWrongCommandLinesAreRefusedInOneSentence(t *testing.T) {
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"lab", "node", "exec", "node1"}, "usage: damask lab node exec NODE -- COMMAND [ARGS]"},
		{[]string{"lab", "node", "exec", "--", "true"}, "usage: damask lab node exec NODE -- COMMAND [ARGS]"},
		{[]string{"lab", "pod", "exec", "a/b", "c/d", "--", "true"}, "usage: damask lab pod exec NAMESPACE/NAME -- COMMAND [ARGS]"},
		{[]string{"lab", "outside", "exec", "host", "--"}, "usage: damask lab outside exec [HOST] -- COMMAND [ARGS]"},
		{[]string{"lab", "pod", "add", "a/b"}, `required flag(s) "node" not set`},
		{[]string{"lab", "up", "-f", "x", "--nodes", "3"}, "none of the others can be"},
		{[]string{"lab", "kill", "node1", "--signal", "NOPE"}, `"NOPE" is not a signal`},
		{[]string{"lab", "status", "-o", "xml"}, "-o xml: table or json"},
		{[]string{"lab", "status", "--name", "no_such"}, `"no_such" cannot name a lab`},
		{[]string{"lab", "status", "--name", "nosuchlab"}, `there is no lab "nosuchlab"`},
	} {
		err := run(c.args...)
		if err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: got %v, want %q", strings.Join(c.args, " "), err, c.want)
		}
	}
}

func TestStatusTellsOfEveryProcessAndPod(t *testing.T) {
	var out bytes.Buffer
	err := printStatus(&out, &labv1.Lab{
		Name: "x", Directory: "/dir", Underlay: "192.168.108.0/24",
		Services: []*labv1.Service{{Name: "ipam", Addresses: []string{"192.168.108.254:9441"}, Processes: []*labv1.Process{
			{Name: "ipam-1", State: labv1.ProcessState_PROCESS_STATE_EXITED, Ending: "exit status 1"}}}},
		Nodes: []*labv1.Node{
			{Name: "node1", Powered: true, Processes: []*labv1.Process{{Name: "nodeagent", State: labv1.ProcessState_PROCESS_STATE_RUNNING, Pid: 4711}}},
			{Name: "node2"},
		},
		Pods: []*labv1.Pod{{Namespace: "red", Name: "a", Node: "node2", Error: "its node is off"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"exited (exit status 1)", "running", "4711", "power is off", "not attached: its node is off", "/dir/logs/"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("status does not say %q:\n%s", want, &out)
		}
	}
}
