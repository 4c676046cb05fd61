// Command probe is what the whole-cluster tests run inside pods, nodes and
// outside hosts: a server that says who it is and whom it sees, and clients
// that report what reached whom, in JSON. It owns no judgement: the tests
// compare what it saw with what should be.
package main

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/damask-sdn/damask/test/ancestor"
)

const usage = `probe serve PORT NAME            answer TCP, UDP and SCTP on PORT until standard input closes
probe web PORT NAME              answer HTTP on PORT with a line of serve's until standard input closes
probe resident NAME PORT...      answer TCP, UDP and SCTP on every PORT, and for each line of standard input,
                                   "QUIET [PROTOCOL ADDR:PORT]...", ask all that it lists until nobody has answered for QUIET; print JSON: who did
probe check                      read checks from standard input, one a line, run all at once, print JSON:
                                   tcp|udp ADDR:PORT SIZE, icmp ADDR SIZE, http ADDR:PORT 0 (path /healthz), or by a proxy
                                   for HTTP: connect PROXY:PORT/HOST:PORT SIZE
probe load PROTOCOL ADDR:PORT,... count|known N
                                 ask "serve" by tcp, udp or sctp N times, each time from a new socket, one address after the other; "known":
                                   the first time alone; print JSON for each: how often each server answered, and whom it saw
probe load PROTOCOL ADDR:PORT rate N
                                 the same N times a second until standard input closes
probe talk ADDR:PORT INTERVAL    ask "serve" by UDP from one socket until standard input closes; print JSON: who answered
probe flow ADDR:PORT INTERVAL    send numbered UDP packets, and keep one TCP stream and new TCP
                                   connections going, until standard input closes; print JSON
probe stream ADDR:PORT INTERVAL  flow's one TCP stream and nothing else
probe reply PORT                 the other end of flow and stream
probe forge                      send the lies that standard input names, one a line (see forge.go)
probe hear PORT                  report each UDP packet that arrives until standard input closes; print JSON
probe join GROUP:PORT            hear's report of what arrives for a multicast group on eth0
probe cast GROUP:PORT TEXT...    send each text to a multicast group
probe series PROTOCOL ADDR:PORT INTERVAL
                                 ask "serve" at every interval, each time from a new socket, until standard input closes;
                                   print JSON: when each was begun, how long it took, and whom the server saw
probe eager DIR ADDR:PORT        send UDP packets from each network namespace that comes into DIR in its first moments,
                                   until standard input closes; print from how many anything was sent
probe witness                    look at each packet that arrives on eth0 until standard input closes; print JSON: from
                                   which address and machine, for which port, from when until when; and who announced what
probe dns PORT TTL NAME=ADDR,... answer for these names by UDP until standard input closes; others do not exist
probe zone PORT FILE             answer what the zone file says, which may change, by UDP and TCP until standard input
                                   closes; print JSON: how often each name was asked for
probe lookup SERVER:PORT NAME    print the addresses of a name
probe visit SERVER:PORT NAME PORT look a name up and connect to its first address at once; print the milliseconds that took
probe ancestor FILE              be the agent of OpenShift SDN on a node that FILE describes, until standard input closes
probe ancestor-plugin            be its CNI plugin
probe heararp                    report the sender of each ARP packet that arrives on eth0, likewise
`

// answerWithin is how long a check waits for an answer before it says "no". It bounds
// only the negative case: a packet that may pass arrives in under a millisecond here.
// It is longer than the second after which TCP and ARP repeat what was lost. Where the
// processor is emulated, DAMASK_PATIENCE asks for more.
func answerWithin() time.Duration {
	if patience, err := time.ParseDuration(os.Getenv("DAMASK_PATIENCE")); err == nil {
		return patience
	}
	return 1500 * time.Millisecond
}

const (
	// repeatAfter is when a check by ICMP or UDP sends its packet again. A check
	// asks whether packets can pass; that one may be lost to a full queue is
	// another question, which flow answers.
	repeatAfter = 300 * time.Millisecond
)

func main() {
	err := run(os.Args[1:])
	if err != nil {
		fmt.Fprintln(os.Stderr, "probe:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	switch {
	case len(args) == 3 && args[0] == "serve":
		return serve(args[1], args[2])
	case len(args) == 3 && args[0] == "web":
		return web(args[1], args[2])
	case len(args) >= 3 && args[0] == "resident":
		return resident(args[1], args[2:])
	case len(args) == 1 && args[0] == "check":
		return check(os.Stdin, os.Stdout)
	case len(args) == 5 && args[0] == "load":
		n, err := strconv.Atoi(args[4])
		if err != nil || n < 1 {
			break
		}
		switch args[3] {
		case "rate":
			return loadAtRate(args[1], args[2], n)
		case "count", "known":
			return load(args[1], strings.Split(args[2], ","), n, args[3] == "known")
		}
	case len(args) == 3 && args[0] == "talk":
		return talk(args[1], args[2])
	case len(args) == 3 && args[0] == "flow":
		return flow(args[1], args[2])
	case len(args) == 3 && args[0] == "stream":
		return stream(args[1], args[2])
	case len(args) == 2 && args[0] == "reply":
		return reply(args[1])
	case len(args) == 1 && args[0] == "forge":
		return forge(os.Stdin)
	case len(args) == 2 && args[0] == "hear":
		return hear(args[1])
	case len(args) == 2 && args[0] == "join":
		return join(args[1])
	case len(args) >= 3 && args[0] == "cast":
		return cast(args[1], args[2:])
	case len(args) == 4 && args[0] == "series":
		return series(args[1], args[2], args[3])
	case len(args) == 3 && args[0] == "eager":
		return eager(args[1], args[2])
	case len(args) == 1 && args[0] == "witness":
		return witness()
	case len(args) >= 3 && args[0] == "dns":
		return serveDNS(args[1], args[2], args[3:])
	case len(args) == 3 && args[0] == "zone":
		return serveZone(args[1], args[2])
	case len(args) == 3 && args[0] == "lookup":
		return lookUp(args[1], args[2])
	case len(args) == 4 && args[0] == "visit":
		return visit(args[1], args[2], args[3])
	case len(args) == 1 && args[0] == "heararp":
		return hearARP()
	case len(args) == 2 && args[0] == "ancestor":
		return ancestor.Run(args[1])
	case len(args) == 1 && args[0] == "ancestor-plugin":
		return ancestor.Plugin()
	}
	return fmt.Errorf("usage:\n%s", usage)
}
