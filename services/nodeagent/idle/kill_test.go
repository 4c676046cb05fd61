package idle

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/damask-sdn/damask/internal/proctest"
)

// agentEnv makes this test binary an agent that holds the service with an iptables
// command: see TestAsAgent.
const agentEnv = "DAMASK_IDLE_TEST_AGENT"

// TestAsAgent is no test: it is the agent that another test kills.
func TestAsAgent(t *testing.T) {
	program := os.Getenv(agentEnv)
	if program == "" {
		t.Skip("runs as a child of another test")
	}
	gate, err := New(Config{Program: program, Need: func(_, name string) { fmt.Println("need", name) }}, hclog.NewNullLogger())
	if err != nil {
		t.Fatal(err)
	}
	if err := gate.Sync(context.Background(), Services{web: frontends()}); err != nil {
		t.Fatal(err)
	}
	fmt.Println("holding")
	select {} // until it is killed
}

// agent starts an agent of its own in the node, and waits until it holds.
func (r *rig) agent(t *testing.T) (process *proctest.Process, said <-chan string) {
	t.Helper()
	cmd := r.node.Command(os.Args[0], "-test.run=^TestAsAgent$")
	cmd.Env = append(os.Environ(), agentEnv+"="+r.program)
	out, in, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stdout = in
	process = proctest.Start(t, cmd)
	_ = in.Close()
	t.Cleanup(func() { _ = out.Close() })
	lines := make(chan string, 100)
	go func() {
		for scanner := bufio.NewScanner(out); scanner.Scan(); {
			lines <- scanner.Text()
		}
	}()
	await(t, lines, "holding")
	return process, lines
}

func await(t *testing.T, lines <-chan string, want string) {
	t.Helper()
	deadline := time.After(patience)
	for {
		select {
		case line := <-lines:
			if line == want {
				return
			}
		case <-deadline:
			t.Fatalf("the agent does not say %q", want)
		}
	}
}

func TestAConnectionOutlivesAnAgentThatIsKilledWhileItHolds(t *testing.T) {
	eachKind(t, func(t *testing.T, r *rig) {
		// What leaves the node with the service's own address is counted.
		r.node.Run(t, r.program, "-t", "mangle", "-A", "POSTROUTING", "-d", "172.30.0.0/16", "-j", "DROP")
		agent, said := r.agent(t)
		r.endpoints(t, false)
		connection := connect(t, r.client, clusterIP+":80")
		datagram := datagrams(t, r.client, clusterIP+":80")
		if _, err := datagram.Write([]byte("lost")); err != nil {
			t.Fatal(err)
		}
		await(t, said, "need web")
		agent.Kill()

		left := r.raw(t)
		if !strings.Contains(left, "-A DAMASK-IDLE ") {
			t.Fatalf("the rules went with the agent:\n%s", left)
		}
		if _, err := datagram.Write([]byte("lost too")); err != nil {
			t.Fatal(err)
		}
		if err := r.sync(t, Services{web: frontends()}); err != nil {
			t.Fatal(err)
		}
		if got := r.raw(t); got != left {
			t.Errorf("the next agent changed\n%s\nto\n%s", left, got)
		}
		r.needed(t, web) // by the client's repetition
		select {
		case a := <-connection:
			t.Fatalf("it did not wait: %+v", a)
		default:
		}
		r.endpoints(t, true)
		r.release(t, web)
		a := <-connection
		if a.err != nil {
			t.Fatal(a.err)
		}
		_ = a.conn.Close()
		if a.seen != clientAddress {
			t.Errorf("the backend saw %s", a.seen)
		}
		if got := r.node.Run(t, r.program, "-t", "mangle", "-v", "-x", "-n", "-L", "POSTROUTING"); !strings.Contains(got, "\n       0        0 DROP") {
			t.Errorf("packets left the node with the service's address:\n%s", got)
		}
	})
}
