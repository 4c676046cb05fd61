package servicepath

import (
	"io"
	"net"
	"net/netip"
	"slices"
	"testing"
	"time"
)

// BenchmarkLookup measures what the lookup of table 30 costs two pods of one node: with
// the flow, and without it, in turns. "us" is the time there and back of a small
// packet, the median; "Mb/s" is one TCP stream.
func BenchmarkLookup(b *testing.B) {
	nodes := newCluster(b, "iptables", true)
	n := nodes[0]
	client, server := n.addPod(b, "shop", "client", 5), n.addPod(b, "shop", "server", 6)
	server.serve(b)
	sink := server.swallow(b)
	flow := n.sw.Ofctl(b, "--no-stats", "dump-flows", "br0", "table=30,ct_state=-trk,ip")
	const match = "table=30,priority=250,ct_state=-trk,ip,nw_src=10.128.0.0/14,nw_dst=10.128.0.0/23"
	var withRTT, withoutRTT, withRate, withoutRate []float64
	for b.Loop() {
		withRTT, withRate = append(withRTT, client.roundTrip(b, server.backend())), append(withRate, client.stream(b, sink))
		n.sw.Ofctl(b, "--strict", "del-flows", "br0", match)
		n.sw.Settle(b)
		withoutRTT, withoutRate = append(withoutRTT, client.roundTrip(b, server.backend())), append(withoutRate, client.stream(b, sink))
		n.sw.Ofctl(b, "add-flow", "br0", match+",actions=ct(table=30,zone=25)")
		n.sw.Settle(b) // The switch has forgotten what it did before.
	}
	if flow == "" {
		b.Fatal("the node has no such flow")
	}
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(middle(withRTT), "us-lookup")
	b.ReportMetric(middle(withoutRTT), "us-none")
	b.ReportMetric(middle(withRate), "Mb/s-lookup")
	b.ReportMetric(middle(withoutRate), "Mb/s-none")
}

func middle(all []float64) float64 {
	slices.Sort(all)
	return all[len(all)/2]
}

// roundTrip is the median time, in microseconds, of a packet there and back by UDP.
func (p *pod) roundTrip(b *testing.B, to netip.AddrPort) float64 {
	b.Helper()
	conn := p.dial(b, "udp4", to.String())
	defer conn.Close()
	var all []float64
	buffer := make([]byte, 1500)
	if got, err := p.ask(b, "udp4", to.String(), 1, answerLimit); err != nil {
		b.Fatal(got, err)
	}
	for range 2000 {
		start := time.Now()
		if _, err := conn.Write([]byte("x")); err != nil {
			b.Fatal(err)
		}
		if _, err := conn.Read(buffer); err != nil {
			b.Fatal(err)
		}
		all = append(all, float64(time.Since(start).Nanoseconds())/1000)
	}
	return middle(all)
}

// stream is the rate, in megabits a second, of one TCP stream for a second.
func (p *pod) stream(b *testing.B, to string) float64 {
	b.Helper()
	conn := p.dial(b, "tcp4", to)
	defer conn.Close()
	block := make([]byte, 256<<10)
	sent := 0
	start := time.Now()
	for time.Since(start) < time.Second {
		n, err := conn.Write(block)
		if err != nil {
			b.Fatal(err)
		}
		sent += n
	}
	return float64(sent) * 8 / 1e6 / time.Since(start).Seconds()
}

func (p *pod) dial(b *testing.B, network, to string) net.Conn {
	b.Helper()
	var conn net.Conn
	var err error
	p.ns.Do(b, func() { conn, err = net.DialTimeout(network, to, answerLimit) })
	if err == nil {
		err = conn.SetDeadline(time.Now().Add(answerLimit))
	}
	if err != nil {
		b.Fatal(err)
	}
	return conn
}

// swallow makes the pod read whatever comes by TCP, and answers where.
func (p *pod) swallow(b *testing.B) string {
	b.Helper()
	var listener net.Listener
	var err error
	p.ns.Do(b, func() { listener, err = net.Listen("tcp4", netip.AddrPortFrom(p.ip, 9000).String()) })
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				_, _ = io.Copy(io.Discard, conn)
				_ = conn.Close()
			}()
		}
	}()
	return listener.Addr().String()
}
