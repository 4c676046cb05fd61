package proxytest_test

import (
	"testing"

	"github.com/damask-sdn/damask/services/nodeagent/proxy"
	"github.com/damask-sdn/damask/services/nodeagent/proxy/iptables"
	"github.com/damask-sdn/damask/services/nodeagent/proxy/nftables"
	"github.com/damask-sdn/damask/services/nodeagent/proxy/proxytest"
)

// withIPTables makes the engine iptables for one of its backends.
func withIPTables(program string) proxytest.Maker {
	return func(t testing.TB, node proxy.Node) proxy.Engine {
		t.Helper()
		e, err := iptables.New(node, program)
		if err != nil {
			t.Fatal(err)
		}
		return e
	}
}

func withNFTables(t testing.TB, node proxy.Node) proxy.Engine {
	t.Helper()
	e, err := nftables.New(node)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = e.Close() })
	return e
}

func TestSwitchOfTheEngineCutsNothing(t *testing.T) {
	for _, program := range []string{"iptables-nft", "iptables-legacy"} {
		t.Run(program+" to nftables", func(t *testing.T) { proxytest.Switch(t, withIPTables(program), withNFTables) })
		t.Run("nftables to "+program, func(t *testing.T) { proxytest.Switch(t, withNFTables, withIPTables(program)) })
	}
}
