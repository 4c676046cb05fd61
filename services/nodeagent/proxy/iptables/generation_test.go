package iptables

import (
	"context"
	"fmt"
	"net/netip"
	"os/exec"
	"testing"

	"github.com/damask-sdn/damask/internal/netnstest"
	"github.com/damask-sdn/damask/internal/proctest"
	"github.com/damask-sdn/damask/services/nodeagent/proxy"
)

// counted is a kernel that counts how often it is read.
type counted struct {
	programs
	dumps int
}

func (c *counted) dump(ctx context.Context) (saved, error) {
	c.dumps++
	return c.programs.dump(ctx)
}

// TestRulesThatNobodyTouchedAreNotReadAgain asks the real kernel who wrote.
func TestRulesThatNobodyTouchedAreNotReadAgain(t *testing.T) {
	for program, counts := range map[string]bool{"iptables-nft": true, "iptables-legacy": false} {
		t.Run(program, func(t *testing.T) {
			proctest.Need(t, program)
			netnstest.New(t, "node").Do(t, func() {
				e, err := New(testNode(), program)
				if err != nil {
					t.Fatal(err)
				}
				k := &counted{programs: e.kernel.(programs)}
				e.kernel = k
				state := proxy.State{}
				for i := range 3 {
					s := plainService(i, 1)
					state[s.Key] = s
				}
				// sync wants so many changes, and the rules to be read or not.
				sync := func(when string, reads bool, changes bool) {
					t.Helper()
					before := k.dumps
					got, err := e.Sync(t.Context(), state)
					if err != nil || got.None() == changes {
						t.Errorf("%s: changes %+v, error %v", when, got, err)
					}
					if read := k.dumps > before; read != (reads || !counts) {
						t.Errorf("%s: rules read: %v", when, read)
					}
				}
				sync("at start", true, true)
				sync("after our own load", true, false)
				sync("when nothing was touched", false, false)
				next := plainService(1, 2)
				state[next.Key] = next
				if err := e.Apply(t.Context(), proxy.Change{Key: next.Key, Service: &next}); err != nil {
					t.Fatal(err)
				}
				sync("after our own change", false, false)
				next = plainService(2, 2)
				state[next.Key] = next
				sync("with a service that differs", false, true)
				sync("after that", false, false)
				foreign(t, program, "-N", "FOREIGN")
				sync("after somebody else's chain", true, false)
				sync("which was seen", false, false)
				foreign(t, program, "-D", "KUBE-SERVICES", "1")
				sync("after damage", true, true)
				foreign(t, program, "-F", "FOREIGN")
				next = plainService(0, 2)
				state[next.Key] = next
				if err := e.Apply(t.Context(), proxy.Change{Key: next.Key, Service: &next}); err != nil {
					t.Fatal(err)
				}
				sync("after a change of both", true, false)
			})
		})
	}
}

func foreign(t *testing.T, program string, args ...string) {
	t.Helper()
	if out, err := exec.Command(program, append([]string{"-w", "-t", "nat"}, args...)...).CombinedOutput(); err != nil {
		t.Fatalf("%v: %v\n%s", args, err, out)
	}
}

// plainService is service i with so many backends.
func plainService(i, backends int) proxy.Service {
	s := proxy.Service{
		Key:        proxy.Key{Namespace: "shop", Name: fmt.Sprintf("s%d", i), Protocol: proxy.TCP},
		ClusterIPs: []netip.Addr{netip.AddrFrom4([4]byte{172, 30, 0, byte(i + 1)})}, Port: 80,
	}
	for b := range backends {
		s.ClusterBackends = append(s.ClusterBackends, proxy.Backend{Addr: netip.AddrFrom4([4]byte{10, 129, 0, byte(b + 1)}), Port: 8080})
	}
	s.ExternalBackends = s.ClusterBackends
	return s
}
