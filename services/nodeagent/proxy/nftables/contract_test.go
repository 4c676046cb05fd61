package nftables

import (
	"testing"

	"github.com/damask-sdn/damask/services/nodeagent/proxy"
	"github.com/damask-sdn/damask/services/nodeagent/proxy/proxytest"
)

func TestEnginePassesTheContract(t *testing.T) {
	proxytest.Run(t, func(t testing.TB, node proxy.Node) proxy.Engine { return newEngine(t, node) })
}

// newEngine makes an engine that is closed when the test ends.
func newEngine(t testing.TB, node proxy.Node) *Engine {
	t.Helper()
	e, err := New(node)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	})
	return e
}
