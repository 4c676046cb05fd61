package idle

import (
	"fmt"
	"net"
	"testing"

	"github.com/hashicorp/go-hclog"

	"github.com/damask-sdn/damask/internal/netnstest"
	"github.com/damask-sdn/damask/internal/proctest"
	"github.com/damask-sdn/damask/services/nodeagent/proxy"
)

// many are idled services with a cluster IP and a node port each.
func many(count int) Services {
	all := Services{}
	for i := range count {
		all[named(fmt.Sprintf("s%d", i))] = []Frontend{
			{addr(fmt.Sprintf("172.31.%d.%d", i/250, i%250+1)), proxy.TCP, 80}, {Protocol: proxy.TCP, Port: uint16(31000 + i)},
		}
	}
	return all
}

// eachSize runs a benchmark beside so many idled services, with both backends.
func eachSize(b *testing.B, run func(b *testing.B, r *rig)) {
	for _, program := range []string{"iptables-nft", "iptables-legacy"} {
		for _, count := range []int{0, 1, 100, 1000} {
			b.Run(fmt.Sprintf("%s/%d", program, count), func(b *testing.B) {
				proctest.Need(b, program)
				r := &rig{node: netnstest.New(b, "node"), program: program}
				var err error
				r.gate, err = New(Config{Program: program, Need: func(string, string) {}}, hclog.NewNullLogger())
				if err != nil {
					b.Fatal(err)
				}
				b.Cleanup(r.gate.Close)
				if err := r.sync(b, many(count)); err != nil {
					b.Fatal(err)
				}
				run(b, r)
			})
		}
	}
}

// BenchmarkHoldAndRelease is one service more, and one less.
func BenchmarkHoldAndRelease(b *testing.B) {
	eachSize(b, func(b *testing.B, r *rig) {
		for b.Loop() {
			r.hold(b, web, frontends())
			r.release(b, web)
		}
	})
}

// BenchmarkAudit compares and changes nothing.
func BenchmarkAudit(b *testing.B) {
	eachSize(b, func(b *testing.B, r *rig) {
		services := r.gate.held
		for b.Loop() {
			if err := r.sync(b, services); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// BenchmarkPacketOfOthers is a datagram that concerns no idled service and passes both
// chains: the node sends it to itself.
func BenchmarkPacketOfOthers(b *testing.B) {
	eachSize(b, func(b *testing.B, r *rig) {
		var from net.Conn
		var to net.PacketConn
		var err, errTo error
		r.node.Do(b, func() {
			to, errTo = net.ListenPacket("udp4", "127.0.0.1:9")
			from, err = net.Dial("udp4", "127.0.0.1:9")
		})
		if err != nil || errTo != nil {
			b.Fatal(err, errTo)
		}
		defer from.Close()
		defer to.Close()
		buffer := make([]byte, 100)
		for b.Loop() {
			if _, err := from.Write(buffer[:50]); err != nil {
				b.Fatal(err)
			}
			if _, _, err := to.ReadFrom(buffer); err != nil {
				b.Fatal(err)
			}
		}
	})
}
