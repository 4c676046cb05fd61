package lab

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	labv1 "github.com/damask-sdn/damask/proto/damask/lab/v1"
)

// probeBinary and damaskBinary are set once, before any test runs.
var probeBinary, damaskBinary string

func TestMain(m *testing.M) {
	os.Exit(func() int {
		if os.Getuid() != 0 && os.Getenv("DAMASK_REQUIRE_REAL") != "1" {
			fmt.Println("skipped: labs need root")
			return 0
		}
		remove, err := findProbe()
		if err != nil {
			fmt.Println(err)
			return 1
		}
		defer remove()
		damaskBinary, err = filepath.Abs("../../bin/damask")
		if err != nil {
			fmt.Println(err)
			return 1
		}
		if _, err := os.Stat(damaskBinary); err != nil {
			fmt.Println("bin/damask is not built: make build")
			return 1
		}
		return m.Run()
	}())
}

// findProbe builds the probe, unless somebody has: a virtual machine has no
// compiler. It answers what removes it again.
func findProbe() (remove func(), err error) {
	if probeBinary = os.Getenv("DAMASK_PROBE"); probeBinary != "" {
		return func() {}, nil
	}
	dir, err := os.MkdirTemp("", "damask-probe")
	if err != nil {
		return nil, err
	}
	remove = func() { os.RemoveAll(dir) }
	probeBinary = filepath.Join(dir, "probe")
	build := exec.Command("go", "build", "-o", probeBinary, "../probe")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		remove()
		return nil, fmt.Errorf("build probe: %w\n%s", err, out)
	}
	return remove, nil
}

// datapath is that of this run's labs: the one that DAMASK_DATAPATH names, or the
// userspace datapath, which every machine has.
func datapath() string { return cmp.Or(os.Getenv("DAMASK_DATAPATH"), "netdev") }

// userspace tells whether this run's labs have the userspace datapath.
func userspace() bool { return datapath() == "netdev" }

// pace is the pause between two packets of a probe's traffic. Where the processor is
// emulated, DAMASK_PACE asks for longer ones, so that the switch and the agents get
// their share of it.
func pace() string { return cmp.Or(os.Getenv("DAMASK_PACE"), "1ms") }

// cluster is a running lab.
type cluster struct {
	t    *testing.T
	name string
	lab  *labv1.Lab // as it was when it was asked last; nil: ask
}

// up starts a lab from a topology and takes it down when the test ends.
func up(t *testing.T, topology string) *cluster {
	t.Helper()
	return upAs(t, labName(t), topology)
}

func upAs(t *testing.T, name, topology string) *cluster {
	t.Helper()
	file := filepath.Join(t.TempDir(), "topology.yaml")
	if err := os.WriteFile(file, []byte(topology), 0o600); err != nil {
		t.Fatal(err)
	}
	c := &cluster{t: t, name: name}
	t.Cleanup(func() {
		if t.Failed() {
			out, _ := c.try("lab", "status", "--name", c.name)
			t.Logf("the lab at the end:\n%s", out)
		}
		if out, err := c.try("lab", "down", "--name", c.name); err != nil {
			t.Errorf("lab down: %v\n%s", err, out)
		}
	})
	c.run("lab", "up", "--name", c.name, "-f", file, "--datapath", datapath())
	return c
}

// in answers the same lab for a part of a test: what is started in it ends with it.
func (c *cluster) in(t *testing.T) *cluster {
	part := *c
	part.t = t
	return &part
}

// labName makes a name that no other test has: labs of an earlier run that was
// cut off must not be in the way.
func labName(t *testing.T) string {
	short := strings.ToLower(strings.NewReplacer("/", "", "_", "").Replace(strings.TrimPrefix(t.Name(), "Test")))
	return fmt.Sprintf("%s%.10s", labPrefix(), short)
}

// labPrefix begins the name of every lab of this run.
func labPrefix() string { return fmt.Sprintf("t%d", os.Getpid()%10000) }

// try runs damask and answers what it printed on both outputs.
func (c *cluster) try(args ...string) (string, error) {
	out, err := exec.Command(damaskBinary, args...).CombinedOutput()
	return string(out), err
}

// run runs damask, which must succeed.
func (c *cluster) run(args ...string) string {
	c.t.Helper()
	var stdout, stderr bytes.Buffer
	cmd := exec.Command(damaskBinary, args...)
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		c.t.Fatalf("damask %s: %v\n%s%s", strings.Join(args, " "), err, &stdout, &stderr)
	}
	return stdout.String()
}

// ctl runs a verb of the operator's CLI against this lab.
func (c *cluster) ctl(args ...string) string {
	c.t.Helper()
	return c.run(append([]string{"--lab", c.name}, args...)...)
}

// place is where a command runs: in a pod, on a node, or on an outside host.
type place struct {
	kind string // "pod", "node" or "outside"
	name string
}

func inPod(name string) place     { return place{"pod", name} }
func onNode(name string) place    { return place{"node", name} }
func onOutside(name string) place { return place{"outside", name} }

func (p place) String() string { return p.kind + " " + p.name }

// command prepares a command at a place.
func (c *cluster) command(at place, args ...string) *exec.Cmd {
	full := []string{"lab", at.kind, "exec", "--name", c.name}
	if at.name != "" {
		full = append(full, at.name)
	}
	full = append(append(full, "--"), args...)
	return exec.Command(damaskBinary, full...)
}

// exec runs a command at a place, which must succeed.
func (c *cluster) exec(at place, args ...string) string {
	c.t.Helper()
	out, err := c.command(at, args...).CombinedOutput()
	if err != nil {
		c.t.Fatalf("%s: %s: %v\n%s", at, strings.Join(args, " "), err, out)
	}
	return string(out)
}

// background is a probe that runs until it is told to end.
type background struct {
	cmd    *exec.Cmd
	stdin  io.WriteCloser
	output *bytes.Buffer
	done   chan struct{} // closed when it has ended, with err
	err    error
}

// start runs a probe at a place and waits for it to say that it is ready.
func (c *cluster) start(at place, args ...string) *background {
	c.t.Helper()
	b := &background{cmd: c.command(at, append([]string{probeBinary}, args...)...), output: &bytes.Buffer{}, done: make(chan struct{})}
	var err error
	if b.stdin, err = b.cmd.StdinPipe(); err != nil {
		c.t.Fatal(err)
	}
	stdout, err := b.cmd.StdoutPipe()
	if err != nil {
		c.t.Fatal(err)
	}
	var stderr bytes.Buffer
	b.cmd.Stderr = &stderr
	if err := b.cmd.Start(); err != nil {
		c.t.Fatal(err)
	}
	ready := make([]byte, len("ready\n"))
	if _, err := io.ReadFull(stdout, ready); err != nil {
		b.stdin.Close()
		b.cmd.Wait()
		c.t.Fatalf("%s: probe %s did not start: %v\n%s", at, strings.Join(args, " "), err, &stderr)
	}
	go func() {
		io.Copy(b.output, stdout)
		b.err = b.cmd.Wait()
		close(b.done)
	}()
	// The next part of a test may want its port.
	c.t.Cleanup(func() {
		b.stdin.Close()
		select {
		case <-b.done:
		case <-time.After(time.Minute):
			b.cmd.Process.Kill()
		}
	})
	return b
}

// end closes the probe's input and answers what it printed.
func (b *background) end(t *testing.T) []byte {
	t.Helper()
	b.stdin.Close()
	select {
	case <-b.done:
		if b.err != nil {
			t.Fatalf("probe ended with %v: %s", b.err, b.output)
		}
	case <-time.After(time.Minute):
		b.cmd.Process.Kill()
		t.Fatal("the probe did not end within a minute")
	}
	return b.output.Bytes()
}

// checkResult is a line of what `probe check` answers.
type checkResult struct {
	Check  string `json:"check"`
	OK     bool   `json:"ok"`
	Server string `json:"server"`
	Source string `json:"source"`
	Error  string `json:"error"`
}

// check runs checks at a place, all at once.
func (c *cluster) check(at place, lines ...string) []checkResult {
	c.t.Helper()
	results, err := c.tryCheck(at, lines...)
	if err != nil {
		c.t.Fatal(err)
	}
	return results
}

// tryCheck is check for any goroutine.
func (c *cluster) tryCheck(at place, lines ...string) ([]checkResult, error) {
	cmd := c.command(at, probeBinary, "check")
	cmd.Stdin = strings.NewReader(strings.Join(lines, "\n"))
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("%s: probe check: %w\n%s", at, err, &stderr)
	}
	var results []checkResult
	if err := json.Unmarshal(out, &results); err != nil {
		return nil, fmt.Errorf("%s: probe check answered %q: %w", at, out, err)
	}
	return results, nil
}

// soon is eventually without a judgement: it gives up after a while.
func (c *cluster) soon(holds func() bool) {
	for deadline := time.Now().Add(5 * time.Second); !holds() && time.Now().Before(deadline); {
		time.Sleep(100 * time.Millisecond)
	}
}

// eventually looks again and again until something holds of which nobody tells
// when it does.
func (c *cluster) eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	c.eventuallyWithin(t, 30*time.Second, what, holds)
}

// eventuallyWithin is eventually for what may take longer.
func (c *cluster) eventuallyWithin(t *testing.T, limit time.Duration, what string, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(limit); !holds(); {
		if time.Now().After(deadline) {
			t.Fatalf("%s later it does not hold that %s", limit, what)
		}
		time.Sleep(100 * time.Millisecond)
	}
}
