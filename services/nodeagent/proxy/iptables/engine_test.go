package iptables_test

import (
	"testing"

	"github.com/damask-sdn/damask/internal/proctest"
	"github.com/damask-sdn/damask/services/nodeagent/proxy"
	"github.com/damask-sdn/damask/services/nodeagent/proxy/iptables"
	"github.com/damask-sdn/damask/services/nodeagent/proxy/proxytest"
)

// backends are the two kinds of iptables.
func backends() []string { return []string{"iptables-nft", "iptables-legacy"} }

// engine makes an engine for one kind.
func engine(t testing.TB, node proxy.Node, program string) *iptables.Engine {
	t.Helper()
	e, err := iptables.New(node, program)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func TestEngineKeepsTheContract(t *testing.T) {
	for _, program := range backends() {
		t.Run(program, func(t *testing.T) {
			proctest.Need(t, program)
			proxytest.Run(t, func(t testing.TB, node proxy.Node) proxy.Engine { return engine(t, node, program) })
		})
	}
}
