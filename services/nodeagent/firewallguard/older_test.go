package firewallguard_test

import (
	"encoding/binary"
	"net"
	"net/netip"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"

	"github.com/damask-sdn/damask/services/nodeagent/firewallguard"
)

// older makes the table as agents made it that numbered firewalls: nft cannot print it.
// The pod may reach the first endpoint.
func (n *node) older(t *testing.T) {
	t.Helper()
	conn, err := nftables.New(nftables.WithNetNSFd(int(n.File().Fd())))
	if err != nil {
		t.Fatal(err)
	}
	table := conn.AddTable(&nftables.Table{Family: nftables.TableFamilyIPv4, Name: "damask_firewall"})
	number := binary.NativeEndian.AppendUint32(nil, 0x80000001)
	key := append(slices.Concat(number, endpoint.Address.Addr().AsSlice()), 17, 0, 0, 0)
	key = append(binary.BigEndian.AppendUint16(key, endpoint.Address.Port()), 0, 0)
	pods := &nftables.Set{Table: table, Name: "pods", IsMap: true, KeyType: nftables.TypeIPAddr, DataType: nftables.TypeMark, KeyByteOrder: binaryutil.BigEndian}
	allowed := &nftables.Set{
		Table: table, Name: "allowed", Concatenation: true,
		KeyType: nftables.MustConcatSetType(nftables.TypeMark, nftables.TypeIPAddr, nftables.TypeInetProto, nftables.TypeInetService),
	}
	if err := conn.AddSet(pods, []nftables.SetElement{{Key: pod.AsSlice(), Val: number}}); err != nil {
		t.Fatal(err)
	}
	if err := conn.AddSet(allowed, []nftables.SetElement{{Key: key}}); err != nil {
		t.Fatal(err)
	}
	priority := nftables.ChainPriority(-10)
	forward := conn.AddChain(&nftables.Chain{Table: table, Name: "forward", Type: nftables.ChainTypeFilter, Hooknum: nftables.ChainHookForward, Priority: &priority})
	source := &expr.Payload{DestRegister: 8, Base: expr.PayloadBaseNetworkHeader, Offset: 12, Len: 4}
	for _, exprs := range [][]expr.Any{
		{source, &expr.Cmp{Op: expr.CmpOpNeq, Register: 8, Data: pod.AsSlice()}, &expr.Verdict{Kind: expr.VerdictReturn}},
		{
			source, &expr.Lookup{SourceRegister: 8, DestRegister: 8, IsDestRegSet: true, SetName: "pods"},
			&expr.Payload{DestRegister: 9, Base: expr.PayloadBaseNetworkHeader, Offset: 16, Len: 4}, &expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 10},
			&expr.Payload{DestRegister: 11, Base: expr.PayloadBaseTransportHeader, Offset: 2, Len: 2},
			&expr.Lookup{SourceRegister: 8, SetName: "allowed"}, &expr.Verdict{Kind: expr.VerdictReturn},
		},
		{&expr.Counter{}, &expr.Verdict{Kind: expr.VerdictDrop}},
	} {
		conn.AddRule(&nftables.Rule{Table: table, Chain: forward, Exprs: exprs})
	}
	if err := conn.Flush(); err != nil {
		t.Fatal(err)
	}
}

// udp opens a socket in the outside host, and one in the pod to a service that leads there.
func (n *node) udp(t *testing.T, outside, service string) (there net.PacketConn, here net.Conn) {
	t.Helper()
	var err error
	n.outside.Do(t, func() { there, err = net.ListenPacket("udp4", outside) })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = there.Close() })
	n.pod.Do(t, func() { here, err = net.Dial("udp4", service) })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = here.Close() })
	return there, here
}

// TestATableOfAnOlderAgentIsReplacedUnderTraffic sends what is allowed and what is not all
// the time: each of the first arrives, and none of the others.
func TestATableOfAnOlderAgentIsReplacedUnderTraffic(t *testing.T) {
	n := start(t)
	n.older(t)
	allowed, toAllowed := n.udp(t, ":8081", "172.30.0.1:80")
	forbidden, toForbidden := n.udp(t, ":8082", "172.30.0.2:80")
	if err := n.guard.Set(t.Context(), firewallguard.Wanted{
		Judged:  map[netip.Addr]string{pod: "red"},
		Allowed: map[string][]firewallguard.Endpoint{"red": {{Address: endpoint.Address, Protocol: 17}}},
	}); err != nil {
		t.Fatal(err)
	}
	done, sent := make(chan struct{}), make(chan int)
	go func() {
		defer close(sent)
		for i := 0; ; i++ {
			select {
			case <-done:
				sent <- i
				return
			case <-time.After(200 * time.Microsecond):
			}
			// ICMP's answers come back as errors of the next call.
			_, _ = toForbidden.Write([]byte("forbidden"))
			if _, err := toAllowed.Write([]byte("allowed")); err != nil {
				t.Errorf("send: %v", err)
			}
		}
	}()
	// Read all the time: what nobody reads, the socket drops.
	var arrived atomic.Int64
	go func() {
		for b := make([]byte, 64); ; arrived.Add(1) {
			if _, _, err := allowed.ReadFrom(b); err != nil {
				return
			}
		}
	}()
	arrive := func(more int64) {
		t.Helper()
		wanted := arrived.Load() + more
		for end := time.Now().Add(5 * time.Second); arrived.Load() < wanted && time.Now().Before(end); {
			time.Sleep(time.Millisecond)
		}
	}
	const some = 50
	arrive(some) // the older table judges
	repairs, err := n.guard.Ensure(t.Context(), firewallguard.Config{Pods: netip.MustParsePrefix("10.128.0.0/23")})
	if err != nil || len(repairs) == 0 {
		t.Errorf("repairs are %q, %v", repairs, err)
	}
	arrive(some) // and now the new one
	n.Printed(t)
	close(done)
	want := int64(<-sent)
	arrive(want - arrived.Load())
	if seen := arrived.Load(); seen != want {
		t.Errorf("%d of %d packets that are allowed have arrived", seen, want)
	}
	if err := forbidden.SetReadDeadline(time.Now().Add(50 * time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	if _, from, err := forbidden.ReadFrom(make([]byte, 64)); err == nil {
		t.Errorf("what is forbidden has arrived, from %s", from)
	}
}
