package proxytest

import (
	"bufio"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/damask-sdn/damask/services/nodeagent/proxy"
)

// Switch goes from one engine to another on a live node: the new one puts its rules
// beside the old one's, then the old one takes its own out. Connections stay, and new
// ones are answered at every moment. Only affinity begins anew: each engine keeps its own.
func Switch(t *testing.T, from, to Maker) {
	r := newRig(t, from)
	s := service(proxy.TCP, toWeb, toAPI)
	r.sync(t, s)
	conn := r.fromPod().open(t, "tcp4", onCluster)
	lines := bufio.NewReader(conn)
	if _, err := lines.ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	works := func(when string) {
		t.Helper()
		if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
			t.Fatal(err)
		}
		if _, err := fmt.Fprintln(conn, when); err != nil {
			t.Fatalf("%s: %v", when, err)
		}
		if got, err := lines.ReadString('\n'); err != nil || strings.TrimSpace(got) != when {
			t.Fatalf("%s: got %q, error %v", when, got, err)
		}
		for _, c := range []client{r.fromPod(), r.fromNode(), r.fromOutside()} {
			for _, to := range []string{onCluster, onNodePort, onExternal, onBalancer} {
				if got, err := c.ask(t, to, patience); err != nil || !strings.Contains(bothServers, got.server) {
					t.Errorf("%s, from %s to %s: got %v, error %v", when, c.name, to, got, err)
				}
			}
		}
	}
	works("with the old engine")
	old := r.engine
	r.make = to
	r.restart(t)
	r.sync(t, s)
	works("with both engines")
	var err error
	r.node.Do(t, func() { err = old.Cleanup(t.Context()) })
	if err != nil {
		t.Fatalf("Cleanup of the old engine: %v", err)
	}
	works("with the new engine")
	if changes := r.sync(t, s); !changes.None() {
		t.Errorf("the old engine's Cleanup took %+v from the new one", changes)
	}
}
