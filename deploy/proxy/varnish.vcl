# Varnish in front of stillgood.
#
# A GET of OCSP is base64 in the path: "//", "%2F" and "+" are data. Varnish leaves paths alone: add no regsub() on req.url
# and no std.querysort(). Do not redirect to https: OCSP clients do not follow.
# Start with -p http_req_hdr_len=16k: a request may have 10 000 octets, a third more in base64.
vcl 4.1;

backend stillgood {
    .host = "127.0.0.1";
    .port = "8080";
    .connect_timeout = 2s;
    .first_byte_timeout = 10s;
    # idle_timeout of stillgood is 1m; -p backend_idle_timeout=50s keeps Varnish below it.
}

sub vcl_recv {
    # Only these two are OCSP; a POST is passed on by what is built in.
    if (req.method != "GET" && req.method != "HEAD" && req.method != "POST") {
        return (synth(405));
    }
    # Clients send neither; what they say must not split the cache.
    unset req.http.Cookie;
    unset req.http.Authorization;
}

sub vcl_hash {
    # One answer for all host names.
    hash_data(req.url);
    return (lookup);
}

sub vcl_backend_response {
    # Never beyond max-age: Varnish does not know nextUpdate. What is kept for a while longer is only asked about (304).
    set beresp.grace = 0s;
    set beresp.keep = 1h;
    if (beresp.http.Cache-Control ~ "no-store") {
        # By the default of two minutes nothing of that path would be cached, or waited for.
        set beresp.uncacheable = true;
        set beresp.ttl = 0s;
        return (deliver);
    }
}
