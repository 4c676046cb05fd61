package nodeagent

import (
	"net"
	"path/filepath"
	"testing"

	"github.com/damask-sdn/damask/services/nodeagent/ancestor"
)

// TestServicesWaitUntilNobodyElseProgramsThem has OpenShift SDN's agent, which is a service
// proxy too, answer and end, and start again when the node is not its own any more.
func TestServicesWaitUntilNobodyElseProgramsThem(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "socket")
	s := &services{state: complete(t), proxied: proxied{ancestor: ancestor.Node{Socket: socket}}}
	var other net.Listener
	for _, step := range []struct {
		name                string
		answers, programmed bool
	}{{"it is at work", true, false}, {"it has ended", false, true}, {"it starts again", true, true}} {
		if step.answers {
			listener, err := net.Listen("unix", socket)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = listener.Close() })
			other = listener
		} else {
			_ = other.Close()
		}
		if _, known := s.view(t.Context(), Config{}); known != step.programmed {
			t.Errorf("%s: services are programmed: %t, want %t", step.name, known, step.programmed)
		}
	}
}
