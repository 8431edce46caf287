// Stands before upstream's agnhost where the kernel has no SCTP sockets: serves and asks SCTP by raw packets (INIT, INIT ACK), and hands
// everything else on. What it says is what agnhost says. With SCTP sockets it is not there at all.
// Called as worker it asks what Cyclonus' worker asks, all at once and by itself.
package main

import (
	"crypto/rand"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

const (
	upstream = "/agnhost-upstream"
	number   = syscall.IPPROTO_SCTP
	served   = "SERVE_SCTP_PORT_"
	// RFC 9260 §3.2.
	chunkInit, chunkInitAck, chunkAbort = 1, 2, 6
)

func main() {
	if filepath.Base(os.Args[0]) == "worker" {
		work()
		return
	}
	words := os.Args[1:]
	if len(words) > 0 && !kernelHasSCTP() {
		switch words[0] {
		case "porter":
			porter()
		case "connect":
			if destination, limit, asked := parse(words[1:]); asked {
				if err := connect(destination, limit); err != nil {
					fail("%v\n", err)
				}
				os.Exit(0)
			}
		}
	}
	become(os.Environ())
}

func kernelHasSCTP() bool {
	socket, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM, number)
	if err == nil {
		syscall.Close(socket)
	}
	return err == nil
}

func become(environment []string) {
	err := syscall.Exec(upstream, append([]string{"/agnhost"}, os.Args[1:]...), environment)
	fail("UNKNOWN: %s: %v\n", upstream, err)
}

func fail(format string, values ...any) {
	fmt.Fprintf(os.Stderr, format, values...)
	os.Exit(1)
}

// Serves the SCTP ports of the environment; what is there besides is for upstream's porter, in a process of its own.
func porter() {
	var ports []uint16
	var rest []string
	others := false
	for _, variable := range os.Environ() {
		name, _, _ := strings.Cut(variable, "=")
		if text, is := strings.CutPrefix(name, served); is {
			port, err := strconv.ParseUint(text, 10, 16)
			if err != nil {
				fail("%s is no port\n", name)
			}
			ports = append(ports, uint16(port))
			continue
		}
		others = others || strings.HasPrefix(name, "SERVE_")
		rest = append(rest, variable)
	}
	if len(ports) == 0 {
		return
	}
	for _, network := range []string{"ip4", "ip6"} {
		if socket, err := net.ListenIP(fmt.Sprintf("%s:%d", network, number), nil); err == nil {
			go serve(socket, network, ports)
		} else if network == "ip4" {
			fail("no raw socket: %v\n", err)
		}
	}
	if !others {
		select {}
	}
	command := exec.Command(upstream, "porter")
	command.Env, command.Stdout, command.Stderr = rest, os.Stdout, os.Stderr
	fail("porter ended: %v\n", command.Run())
}

func serve(socket *net.IPConn, network string, ports []uint16) {
	buffer := make([]byte, 1500)
	for {
		length, _, _, from, err := socket.ReadMsgIP(buffer, nil)
		if err != nil {
			fail("%s: %v\n", network, err)
		}
		packet, to := buffer[:length], (*net.IPAddr)(nil)
		// The kernel shows IPv4's header, and so whom the packet was for; it leaves IPv6's out.
		if network == "ip4" {
			if length < 20 || length < int(packet[0]&15)*4 {
				continue
			}
			to = &net.IPAddr{IP: append(net.IP(nil), packet[16:20]...)}
			packet = packet[int(packet[0]&15)*4:]
		}
		if len(packet) < 32 || packet[12] != chunkInit {
			continue
		}
		port := binary.BigEndian.Uint16(packet[2:])
		for _, own := range ports {
			if own == port {
				answer(network, to, from, packet)
			}
		}
	}
}

func answer(network string, own, peer *net.IPAddr, init []byte) {
	out, err := net.DialIP(fmt.Sprintf("%s:%d", network, number), own, peer)
	if err != nil {
		return
	}
	defer out.Close()
	// A state cookie of four bytes.
	cookie := []byte{0, 7, 0, 8, 'f', 'e', 'r', 'r'}
	tag := binary.BigEndian.Uint32(init[16:])
	out.Write(packet(binary.BigEndian.Uint16(init[2:]), binary.BigEndian.Uint16(init), tag, chunkInitAck, random(), cookie))
}

// One packet with an INIT or an INIT ACK (RFC 9260 §3.3.2, §3.3.3).
func packet(source, destination uint16, tag uint32, kind byte, initiate uint32, parameters []byte) []byte {
	bytes := make([]byte, 32, 64)
	binary.BigEndian.PutUint16(bytes, source)
	binary.BigEndian.PutUint16(bytes[2:], destination)
	binary.BigEndian.PutUint32(bytes[4:], tag)
	bytes[12] = kind
	binary.BigEndian.PutUint16(bytes[14:], uint16(20+len(parameters)))
	binary.BigEndian.PutUint32(bytes[16:], initiate)
	binary.BigEndian.PutUint32(bytes[20:], 65536)
	binary.BigEndian.PutUint16(bytes[24:], 1)
	binary.BigEndian.PutUint16(bytes[26:], 1)
	binary.BigEndian.PutUint32(bytes[28:], initiate)
	bytes = append(bytes, parameters...)
	binary.LittleEndian.PutUint32(bytes[8:], crc32.Checksum(bytes, crc32.MakeTable(crc32.Castagnoli)))
	return bytes
}

func random() uint32 {
	var bytes [4]byte
	rand.Read(bytes[:])
	return binary.BigEndian.Uint32(bytes[:]) | 1
}

// The destination and the limit, and whether SCTP is asked for.
func parse(words []string) (destination string, limit time.Duration, asked bool) {
	for at := 0; at < len(words); at++ {
		name, value, joined := strings.Cut(strings.TrimLeft(words[at], "-"), "=")
		if !strings.HasPrefix(words[at], "-") {
			destination = words[at]
			continue
		}
		if !joined && at+1 < len(words) {
			at++
			value = words[at]
		}
		switch name {
		case "protocol":
			asked = value == "sctp"
		case "timeout":
			limit, _ = time.ParseDuration(value)
		}
	}
	return destination, limit, asked
}

// Asks until an answer or the limit.
func connect(destination string, limit time.Duration) error {
	host, text, err := net.SplitHostPort(destination)
	if err != nil {
		return fmt.Errorf("UNKNOWN: %v", err)
	}
	port, err := strconv.ParseUint(text, 10, 16)
	if err != nil {
		return fmt.Errorf("UNKNOWN: %v", err)
	}
	address, err := net.ResolveIPAddr("ip", host)
	if err != nil {
		return fmt.Errorf("DNS: %v", err)
	}
	network := "ip6"
	if address.IP.To4() != nil {
		network = "ip4"
	}
	socket, err := net.DialIP(fmt.Sprintf("%s:%d", network, number), nil, address)
	if err != nil {
		return fmt.Errorf("OTHER: %v", err)
	}
	if limit == 0 {
		limit = time.Minute
	}
	end := time.Now().Add(limit)
	defer socket.Close()
	own, tag := uint16(32768+random()%28000), random()
	buffer := make([]byte, 1500)
	for time.Now().Before(end) {
		if _, err := socket.Write(packet(own, uint16(port), 0, chunkInit, tag, nil)); err != nil {
			return fmt.Errorf("OTHER: %v", err)
		}
		// Asked again as a kernel would, so that one lost packet is no verdict.
		again := time.Now().Add(limit / 3)
		for {
			socket.SetReadDeadline(again)
			// Unlike Read, this leaves IPv4's header out.
			length, _, err := socket.ReadFromIP(buffer)
			if err != nil {
				break
			}
			got := buffer[:length]
			if length < 16 || binary.BigEndian.Uint16(got) != uint16(port) || binary.BigEndian.Uint16(got[2:]) != own ||
				binary.BigEndian.Uint32(got[4:]) != tag {
				continue
			}
			switch got[12] {
			case chunkInitAck:
				return nil
			case chunkAbort:
				return errors.New("OTHER: connection refused")
			}
		}
	}
	return errors.New("TIMEOUT")
}

// What Cyclonus' worker is told (`--jobs JSON`) and says (pkg/worker/model.go there).
type request struct {
	Key, Protocol, Host string
	Port                int
}

type result struct {
	Request *request
	Output  string
	Error   string
}

// Asks what `agnhost connect --timeout=1s` would, twice before it says no, as Cyclonus' worker does; but in one process: a hundred starts of
// agnhost for each of nine pods at once were what a step took its time for.
func work() {
	var batch struct{ Requests []*request }
	if len(os.Args) != 3 || os.Args[1] != "--jobs" {
		fail("usage: worker --jobs JSON\n")
	}
	if err := json.Unmarshal([]byte(os.Args[2]), &batch); err != nil {
		fail("--jobs: %v\n", err)
	}
	results := make([]result, len(batch.Requests))
	var all sync.WaitGroup
	for index, one := range batch.Requests {
		all.Add(1)
		go func() {
			defer all.Done()
			err := one.ask()
			if err != nil {
				err = one.ask()
			}
			results[index].Request = one
			if err != nil {
				results[index].Error = err.Error()
			}
		}()
	}
	all.Wait()
	if err := json.NewEncoder(os.Stdout).Encode(results); err != nil {
		fail("%v\n", err)
	}
}

func (asked *request) ask() error {
	const limit = time.Second
	destination := net.JoinHostPort(asked.Host, strconv.Itoa(asked.Port))
	switch asked.Protocol {
	case "SCTP":
		return connect(destination, limit)
	case "TCP":
		connection, err := net.DialTimeout("tcp", destination, limit)
		if err == nil {
			connection.Close()
		}
		return err
	case "UDP":
		connection, err := net.Dial("udp", destination)
		if err != nil {
			return err
		}
		defer connection.Close()
		connection.SetDeadline(time.Now().Add(limit))
		if _, err := connection.Write([]byte("hostname\n")); err != nil {
			return err
		}
		length, err := connection.Read(make([]byte, 1024))
		if err == nil && length == 0 {
			err = errors.New("no data")
		}
		return err
	}
	return fmt.Errorf("no protocol %q", asked.Protocol)
}
