// Package nftables is the service engine that programs flat sets: one table of its
// own, in which a service is a few elements of sets and maps and never a rule or a
// chain. So what a change costs, and what a new connection costs, does not grow with
// the number of services.
//
// It owns the table "ip damask_proxy" and everything in it: what is there and not
// wanted goes. It promises what package proxytest writes down. It must not touch
// anything outside of its table, save conntrack entries of UDP services whose
// backends went.
//
// # What the sets hold
//
// A frontend is where a service answers: address . protocol . port. The address
// 0.0.0.0 stands for every address of the node: a node port.
//
//	ways-WAY             frontend                     the frontends that go this way
//	refused-SIDE-CHAIN   frontend                     without a backend for clients on this side
//	pick-SCOPE-N         frontend                     with N backends in this scope
//	sticky-SCOPE-N-S     frontend                     the same, with an affinity of S seconds
//	backends             frontend . index             -> backend address . port
//	sticky               frontend                     -> identity of the service port
//	affine_SCOPE         backend . identity           the backends that an affinity may still name
//	affinity             identity . client address    -> backend address . port; the kernel's, with a timeout
//	sources              frontend . network . length  who may use a load balancer's address
//	hairpin              backend address, twice       who must not see itself as its client
//
// The scopes are the service's lists of backends. "cluster" is ClusterBackends, with
// indices from 0; "external" is ExternalBackends, from 32,768; "own" is OwnBackends, from
// 65,536.
//
// # A packet's way
//
// Only the first packet of a connection comes here; conntrack translates the others.
// Chain services finds the frontend in one of the ways; node ports come last, and only
// when the packet is to an address of the node. The ways are chains:
//
//	cluster          mark what is not from the cluster networks, then balance-cluster
//	external         mark, then balance-external
//	external-local   pods: balance-cluster; this node: mark, balance-own, and what that does not take balance-cluster; others: balance-external
//	limited, limited-local   drop who is not in sources, then external or external-local
//
// A balance chain finds the frontend in one of the sets pick-SCOPE-N, and leads to the
// chain of the same name, which all services with N backends share. It draws a number
// below N, looks (frontend . number) up in backends, and translates. Two lookups of one
// packet can see two generations of the sets; a number that is gone by then is replaced
// by the first, which every service that has a backend has.
//
// A sticky chain looks (identity . client) up in affinity; when what it finds is still
// among the affine backends, the time begins anew and that is the choice. Else it draws,
// and remembers. When affinity is full, clients are spread without memory.
//
// In nat-postrouting, what bears the mark, and what would see itself as its client, is
// masqueraded. In filter-input, -forward and -output, a new packet to a frontend
// without backends is refused.
//
// # Why sets, and no maps to verdicts
//
// A frontend could lead to its chain at once, by a verdict in its element. But when an
// element with a verdict is added, the kernel validates the whole table, and walks
// through every element of such maps: 0.5 ms with 10,000 services, where a plain
// element takes 10 to 40 µs at any size; and maps of verdicts that lead to each other
// would multiply. A number that leads through a small map to a chain is as cheap as
// sets, but nft 1.0.6 ends in an assertion when it lists such a rule. So there is a set
// for every number of backends, and a rule for each such set: a connection's cost
// follows how many different numbers there are. The sets for one to four backends are
// always there.
//
// # Limits
//
// IPv4. Rules of others that drop what the node forwards (a firewall's, in another
// table) cannot be overruled from here: an accept ends one table's chain, not the
// packet's way. That is why HealthCheckNodePort and forwarding need nothing from this
// engine. At most 32,768 backends for a service port. When a backend of a UDP service
// goes from one scope and stays in the other, its conntrack entries are deleted for
// both: the next packet chooses again.
//
// `nft list table ip damask_proxy` shows every rule with a comment that says what it
// is for. Four rules of each sticky chain it shows as the comment only: see loadClient.
package nftables
