package egresspath

import (
	"net"
	"testing"
)

// TestAnswersToConnectionsFromOutsideKeepTheirAddress connects to a pod of the node that
// has the egress IP of its namespace.
func TestAnswersToConnectionsFromOutsideKeepTheirAddress(t *testing.T) {
	w := newWorld(t, 2)
	w.outside.Run(t, "ip", "route", "add", subnet(0).String(), "via", "192.0.2.1")
	p := w.nodes[0].addPod(t, "red", 5)
	serve(t, p.ns, ":8080")
	w.nodes[0].hosts(t, 1, hosted("192.0.2.100", "red", 0))
	w.nodes[0].leave(t, "red", by("red", map[string]int{"192.0.2.100": 0}))
	for _, network := range []string{"tcp4", "udp4"} {
		var conn net.Conn
		var err error
		w.outside.Do(t, func() { conn, err = net.DialTimeout(network, p.ip.String()+":8080", answerLimit) })
		if err != nil {
			t.Errorf("%s: %v", network, err)
			continue
		}
		if got, err := ask(conn, answerLimit); err != nil || got != outsideIP {
			t.Errorf("%s: the pod sees %q (%v), want %s", network, got, err, outsideIP)
		}
		_ = conn.Close()
	}
	w.seen.only(t, p.ip.String())
}
