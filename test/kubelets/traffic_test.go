package kubelets

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os/exec"
	"strings"
	"testing"

	"github.com/damask-sdn/damask/internal/proctest"
)

// place is where packets come from: a network namespace that the host can enter.
type place struct {
	name, network string
}

// node is a place on a node.
func (n *node) place() place { return place{name: n.Name(), network: n.Net.Path()} }

// podNetwork answers the network namespace of the pod that has an address, as the host
// finds it.
func (n *node) podNetwork(addr string) (string, error) {
	found, err := n.TryRun("/bin/sh", "-c", `for ns in /run/netns/*; do ip netns exec "${ns##*/}" ip -o -4 address show | grep -q " $1/" && echo "$ns"; done; true`, "sh", addr)
	if err != nil {
		return "", err
	}
	if strings.Contains(found, "\n") || found == "" {
		return "", fmt.Errorf("namespaces with address %s on %s: %q", addr, n.Name(), found)
	}
	return n.Path(found), nil
}

// command is a program of the host in the place's network, not started yet.
func (p place) command(program string, args ...string) *exec.Cmd {
	return exec.Command("nsenter", append([]string{"--net=" + p.network, "--", program}, args...)...)
}

// shares is what `probe load` saw.
type shares struct {
	Answers map[string]int `json:"answers"`
	Errors  map[string]int `json:"errors"`
	Slowest int64          `json:"slowestMicros"`
}

// servers adds up what each server answered, and checks whom it saw: the place's own
// address, unless source is empty.
func (s shares) servers(t *testing.T, source string) map[string]int {
	t.Helper()
	answered := map[string]int{}
	for who, times := range s.Answers {
		server, saw, _ := strings.Cut(who, " ")
		answered[server] += times
		if source != "" && saw != source {
			t.Errorf("%s was asked by %s, and saw %s", server, source, saw)
		}
	}
	if len(s.Errors) > 0 {
		t.Errorf("connections that were not answered: %v", s.Errors)
	}
	return answered
}

// load makes so many connections to an address, each from a new socket.
func (p place) load(t *testing.T, protocol, addr string, count int) shares {
	t.Helper()
	var seen shares
	out, err := p.command(probeBinary, "load", protocol, addr, "count", fmt.Sprint(count)).Output()
	if err == nil {
		err = json.Unmarshal(out, &seen)
	}
	if err != nil {
		t.Fatalf("from %s to %s: %v\n%s", p.name, addr, err, out)
	}
	return seen
}

// check runs checks of `probe check`, one a line, and answers those that failed.
func (p place) check(t *testing.T, checks string) (failed []string) {
	t.Helper()
	cmd := p.command(probeBinary, "check")
	cmd.Stdin = strings.NewReader(checks)
	out, err := cmd.Output()
	var results []struct {
		Check, Error string
		OK           bool
	}
	if err == nil {
		err = json.Unmarshal(out, &results)
	}
	if err != nil {
		t.Fatalf("from %s: %v\n%s", p.name, err, out)
	}
	for _, r := range results {
		if !r.OK {
			failed = append(failed, r.Check+": "+r.Error)
		}
	}
	return failed
}

// traffic is a probe that runs until it is asked what it saw.
type traffic struct {
	process *proctest.Process
	stop    io.Closer
	out     *bufio.Reader
}

// start starts a probe that says "ready", and goes on until its input is closed.
func (p place) start(t *testing.T, args ...string) *traffic {
	t.Helper()
	cmd := p.command(probeBinary, args...)
	var complaints strings.Builder
	cmd.Stderr = &complaints
	stop, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	running := &traffic{process: proctest.Start(t, cmd), stop: stop, out: bufio.NewReader(out)}
	if line, err := running.out.ReadString('\n'); err != nil || line != "ready\n" {
		<-running.process.Done()
		t.Fatalf("probe %s on %s: %q, %v: %s", strings.Join(args, " "), p.name, line, err, complaints.String())
	}
	return running
}

// result ends the probe and reads what it saw.
func (r *traffic) result(t *testing.T, into any) {
	t.Helper()
	_ = r.stop.Close()
	if err := json.NewDecoder(r.out).Decode(into); err != nil {
		t.Fatalf("read what a probe saw: %v", err)
	}
}
