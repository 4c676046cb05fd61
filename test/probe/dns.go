package main

import (
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/net/dns/dnsmessage"
)

// zone is what the server knows: addresses by name, which begins small and ends with a dot.
type zone struct {
	ttl   uint32
	names map[string][][4]byte
}

// readZone reads TTL and NAME=ADDR,ADDR...
func readZone(ttl string, records []string) (zone, error) {
	seconds, err := strconv.ParseUint(ttl, 10, 32)
	z := zone{ttl: uint32(seconds), names: map[string][][4]byte{}}
	if err != nil {
		return z, err
	}
	for _, record := range records {
		name, list, _ := strings.Cut(record, "=")
		for text := range strings.SplitSeq(list, ",") {
			addr, err := netip.ParseAddr(text)
			if err != nil || !addr.Is4() {
				return z, fmt.Errorf("%q is not NAME=IPv4, or NAME and several with commas between them", record)
			}
			z.names[name+"."] = append(z.names[name+"."], addr.As4())
		}
	}
	return z, nil
}

// serveDNS answers questions by UDP until standard input closes.
func serveDNS(port, ttl string, records []string) error {
	z, err := readZone(ttl, records)
	if err != nil {
		return err
	}
	conn, err := net.ListenPacket("udp4", ":"+port)
	if err != nil {
		return err
	}
	fmt.Println("ready")
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		conn.Close()
	}()
	packet := make([]byte, 4096)
	for {
		n, from, err := conn.ReadFrom(packet)
		if err != nil {
			return nil //nolint:nilerr // standard input has closed
		}
		if answer, err := z.answer(packet[:n]); err == nil {
			_, _ = conn.WriteTo(answer, from)
		}
	}
}

func (z zone) answer(question []byte) ([]byte, error) {
	var m dnsmessage.Message
	if err := m.Unpack(question); err != nil || len(m.Questions) != 1 {
		return nil, fmt.Errorf("no question: %w", err)
	}
	q := m.Questions[0]
	answer := dnsmessage.Message{Header: dnsmessage.Header{ID: m.ID, Response: true, Authoritative: true, RCode: dnsmessage.RCodeNameError}, Questions: m.Questions}
	addresses, there := z.names[strings.ToLower(q.Name.String())]
	if there {
		answer.RCode = dnsmessage.RCodeSuccess
	}
	if q.Type == dnsmessage.TypeA {
		for _, a := range addresses {
			answer.Answers = append(answer.Answers, dnsmessage.Resource{
				Header: dnsmessage.ResourceHeader{Name: q.Name, Type: dnsmessage.TypeA, Class: dnsmessage.ClassINET, TTL: z.ttl}, Body: &dnsmessage.AResource{A: a},
			})
		}
	}
	return answer.Pack()
}

// lookUp asks a server for a name, and prints the addresses, one a line.
func lookUp(server, name string) error {
	addresses, err := addressesOf(server, name)
	for _, a := range addresses {
		fmt.Println(a)
	}
	return err
}

// visitTime bounds a connection of visit: the kernel repeats its first packet after 1, 3 and
// 7 s.
const visitTime = 10 * time.Second

// visit looks a name up and connects to its first address at once, as clients do. It
// prints how many milliseconds the connection took.
func visit(server, name, port string) error {
	addresses, err := addressesOf(server, name)
	if err != nil {
		return err
	}
	if len(addresses) == 0 {
		return fmt.Errorf("%s has no address", name)
	}
	began := time.Now()
	conn, err := net.DialTimeout("tcp4", net.JoinHostPort(addresses[0].String(), port), visitTime)
	if err != nil {
		return err
	}
	defer conn.Close()
	fmt.Println(time.Since(began).Milliseconds())
	return nil
}

func addressesOf(server, name string) ([]netip.Addr, error) {
	conn, err := net.Dial("udp4", server)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	asked, err := dnsmessage.NewName(name + ".")
	if err != nil {
		return nil, err
	}
	question := dnsmessage.Message{Header: dnsmessage.Header{ID: 7, RecursionDesired: true}, Questions: []dnsmessage.Question{{
		Name: asked, Type: dnsmessage.TypeA, Class: dnsmessage.ClassINET,
	}}}
	packed, err := question.Pack()
	if err != nil {
		return nil, err
	}
	packet, n := make([]byte, 4096), 0
	err = repeatedly(conn, func() error {
		_, err := conn.Write(packed)
		return err
	}, func() error {
		n, err = conn.Read(packet)
		return err
	})
	if err != nil {
		return nil, err
	}
	var answer dnsmessage.Message
	if err := answer.Unpack(packet[:n]); err != nil {
		return nil, err
	}
	var addresses []netip.Addr
	for _, r := range answer.Answers {
		if a, ok := r.Body.(*dnsmessage.AResource); ok {
			addresses = append(addresses, netip.AddrFrom4(a.A))
		}
	}
	return addresses, nil
}
